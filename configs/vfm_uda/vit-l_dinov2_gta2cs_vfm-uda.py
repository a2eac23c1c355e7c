# As published: the code's numbers, each in its file.
_base_ = [
    '../_base_/models/vfm-uda_vit-l_dinov2.py',
    '../_base_/datasets/gta2cityscapes_1024x1024_rcs.py',
    '../_base_/schedules/schedule_40k_vfm-uda.py', '../_base_/default_runtime.py',
    '../_base_/methods/vfm-uda.py'
]
model = dict(terms=_base_.vfm_uda)
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
