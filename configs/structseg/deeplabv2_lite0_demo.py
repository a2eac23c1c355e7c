# The full method on data that the project draws itself: `make demo` runs it.
_base_ = [
    '../_base_/models/structseg_deeplabv2_lite0-d16.py', '../_base_/datasets/demo.py',
    '../_base_/schedules/adaptation_2k.py', '../_base_/default_runtime.py'
]
model = dict(decode_head=dict(num_classes=8))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=1001, by_epoch=False)
]
train_cfg = dict(max_iters=1000, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=250))
