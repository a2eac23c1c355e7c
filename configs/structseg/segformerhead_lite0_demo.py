# The full method on data that the project draws itself: `make demo` runs it.
_base_ = [
    '../_base_/models/structseg_segformerhead_lite0-d32.py', '../_base_/datasets/demo.py',
    '../_base_/schedules/adaptation_adamw_600.py', '../_base_/default_runtime.py'
]
model = dict(
    decode_head=dict(num_classes=8), terms=dict(adversary=dict(loss_weight=0.1)))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=401, by_epoch=False)
]
train_cfg = dict(max_iters=400, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=100), panel=dict(interval=100))
