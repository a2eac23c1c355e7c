# The source alone: what adaptation gains is measured from here, and on a foundation model that is
# little. Numbers of tue-mps/vfm-uda, training/uda_vit/supervised_vit_generic.py.
_base_ = [
    '../_base_/models/vfm-uda_vit-l_dinov2.py',
    '../_base_/datasets/gta2cityscapes_1024x1024_rcs.py',
    '../_base_/schedules/schedule_40k_vfm-uda.py', '../_base_/default_runtime.py'
]
model = dict(backbone=dict(mask_token=False))
# The encoder's rate is a hundredth of the head's, where VFM-UDA's own is a tenth.
optim_wrapper = dict(
    segmentor=dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.01)))))
# The shifts of its weak jitter, each with probability a half.
jitter = dict(type='PhotoMetricDistortion')
*steps, pack = _base_.train_dataloader.dataset.dataset.pipeline
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=[*steps, jitter, pack])))
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
