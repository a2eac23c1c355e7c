# The rates of adaptation_250k.py over a length that two CPU cores finish.
_base_ = 'adaptation_250k.py'
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=2001, by_epoch=False)
]
train_cfg = dict(max_iters=2000, val_interval=1000)
