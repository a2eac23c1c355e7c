# As published (lhoyer/HRDA, configs/hrda/gtaHR2csHR_hrda.py).
_base_ = [
    '../_base_/models/hrda_mit-b5.py', '../_base_/datasets/gta2cityscapes_1024x1024_hrda.py',
    '../_base_/schedules/schedule_40k_adamw.py', '../_base_/default_runtime.py',
    '../_base_/methods/daformer.py'
]
model = dict(
    terms=dict(
        _base_.daformer,
        self_training=dict(_base_.daformer.self_training, margins=(0, 0))))  # the data marks them
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
