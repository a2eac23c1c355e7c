# A length that two CPU cores finish, at the rates of schedule_150k.py.
_base_ = 'schedule_150k.py'
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=2001, by_epoch=False)
]
train_cfg = dict(max_iters=2000, val_interval=1000)
