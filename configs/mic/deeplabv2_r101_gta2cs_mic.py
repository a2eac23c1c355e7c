# As published (MIC's experiments.py, 81).
_base_ = [
    '../_base_/models/deeplabv2_r101v1c-d8.py', '../_base_/datasets/gta2cityscapes_512x512_rcs.py',
    '../_base_/schedules/schedule_40k_adamw.py', '../_base_/default_runtime.py',
    '../_base_/methods/mic.py'
]
model = dict(terms=_base_.mic)
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
