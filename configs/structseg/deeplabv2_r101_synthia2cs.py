# The paper's model and schedule, SYNTHIA to Cityscapes: 16 classes, and the mean over 13 beside it.
_base_ = [
    '../_base_/models/deeplabv2_r101-d8.py', '../_base_/datasets/synthia2cityscapes.py',
    '../_base_/schedules/schedule_150k.py', '../_base_/methods/structseg.py',
    '../_base_/default_runtime.py'
]
model = dict(
    type='AdvReconSegmentor', decode_head=dict(num_classes=16), terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
