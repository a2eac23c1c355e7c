# The paper's terms on another network; neither weights nor rates are tuned for it.
_base_ = [
    '../_base_/models/segformer_mit-b0.py', '../_base_/datasets/gta2cityscapes.py',
    '../_base_/schedules/schedule_160k_adamw.py', '../_base_/methods/structseg_segformer_mit-b0.py',
    '../_base_/default_runtime.py'
]
model = dict(type='AdvReconSegmentor', terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
