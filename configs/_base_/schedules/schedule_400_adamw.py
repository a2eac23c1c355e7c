# The demo's: as schedule_600_adamw.py, shorter.
_base_ = 'schedule_600_adamw.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=401, by_epoch=False)
]
train_cfg = dict(max_iters=400, val_interval=200)
