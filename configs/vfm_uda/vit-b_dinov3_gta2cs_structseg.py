# The paper's terms on DINOv3's ViT-B; neither weights nor rates are tuned for it. Beside VFM-UDA's:
# terms={**_base_.vfm_uda_blocks, **_base_.terms}.
_base_ = [
    '../_base_/models/vfm-uda_vit-b_dinov3.py',
    '../_base_/datasets/gta2cityscapes_1024x1024_rcs.py',
    '../_base_/schedules/schedule_40k_vfm-uda.py', '../_base_/methods/structseg_vit-b.py',
    '../_base_/default_runtime.py'
]
model = dict(type='AdvReconSegmentor', terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
