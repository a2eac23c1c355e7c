# The source alone: 36.6 mIoU in the paper's Table 1.
_base_ = [
    '../_base_/models/deeplabv2_r101-d8.py', '../_base_/datasets/gta2cityscapes.py',
    '../_base_/schedules/schedule_150k.py', '../_base_/default_runtime.py'
]
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
