# The full model of the paper, GTA5 to Cityscapes: 44.8 mIoU in its Table 1.
_base_ = [
    '../_base_/models/structseg_deeplabv2_r101-d8.py', '../_base_/datasets/gta2cityscapes.py',
    '../_base_/schedules/adaptation_250k.py', '../_base_/default_runtime.py'
]
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
