# As deeplabv2_r101_gta2cs_dacs.py, on 16 classes; its code has the data set, no config.
_base_ = [
    '../_base_/models/deeplabv2_r101-d8.py', '../_base_/datasets/synthia2cityscapes_512x512.py',
    '../_base_/schedules/schedule_150k.py', '../_base_/default_runtime.py',
    '../_base_/methods/dacs.py'
]
model = dict(decode_head=dict(num_classes=16, dilations=(6, 12)), terms=_base_.dacs)
train_cfg = dict(max_iters=250_000)
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
