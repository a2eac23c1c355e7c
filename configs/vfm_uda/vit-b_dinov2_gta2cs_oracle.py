# Trained on the labels of the target, which adaptation never reads: what there is to gain.
_base_ = [
    '../_base_/models/vfm-uda_vit-b_dinov2.py',
    '../_base_/datasets/cityscapes_1024x1024_rcs_oracle.py',
    '../_base_/schedules/schedule_40k_vfm-uda_supervised.py', '../_base_/default_runtime.py'
]
model = dict(backbone=dict(mask_token=False))
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
