# The paper's model and schedule from Cityscapes to four target folders at once.
_base_ = [
    '../_base_/models/deeplabv2_r101-d8.py', '../_base_/datasets/cityscapes2acdc.py',
    '../_base_/schedules/schedule_150k.py', '../_base_/methods/structseg.py',
    '../_base_/default_runtime.py'
]
model = dict(type='AdvReconSegmentor', terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
