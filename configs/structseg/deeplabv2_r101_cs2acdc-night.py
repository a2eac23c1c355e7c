# The paper's model and schedule from day to night.
_base_ = [
    '../_base_/models/structseg_deeplabv2_r101-d8.py',
    '../_base_/datasets/cityscapes2acdc-night.py', '../_base_/schedules/adaptation_250k.py',
    '../_base_/default_runtime.py'
]
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
