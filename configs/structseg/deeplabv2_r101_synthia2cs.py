# The paper's model and schedule, SYNTHIA to Cityscapes: 16 classes, and the mean over 13 beside it.
_base_ = [
    '../_base_/models/structseg_deeplabv2_r101-d8.py', '../_base_/datasets/synthia2cityscapes.py',
    '../_base_/schedules/adaptation_250k.py', '../_base_/default_runtime.py'
]
model = dict(decode_head=dict(num_classes=16))
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
