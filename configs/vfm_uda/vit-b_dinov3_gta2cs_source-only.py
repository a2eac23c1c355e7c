# The source alone: what adaptation gains is measured from here, and on a foundation model that is
# little.
_base_ = [
    '../_base_/models/vfm-uda_vit-b_dinov3.py',
    '../_base_/datasets/gta2cityscapes_1024x1024_rcs_supervised.py',
    '../_base_/schedules/schedule_40k_vfm-uda_supervised.py', '../_base_/default_runtime.py'
]
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
