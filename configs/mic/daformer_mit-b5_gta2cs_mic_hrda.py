# On HRDA, as published (lhoyer/MIC, seg/configs/mic/gtaHR2csHR_mic_hrda.py).
_base_ = [
    '../_base_/models/hrda_mit-b5.py', '../_base_/datasets/gta2cityscapes_1024x1024_hrda.py',
    '../_base_/schedules/schedule_40k_adamw.py', '../_base_/default_runtime.py',
    '../_base_/methods/mic.py'
]
model = dict(
    terms=dict(
        _base_.mic,
        self_training=dict(_base_.mic.self_training, margins=(0, 0)),  # the data marks them
        masked=dict(_base_.mic.masked, block=64)))
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
