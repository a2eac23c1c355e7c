# A length that two CPU cores finish. E and S at the rates of adaptation_250k.py; G and D, which
# start from nothing, learn faster to have a say in so short a run.
_base_ = 'adaptation_250k.py'
optim_wrapper = dict(
    reconstruction=dict(optimizer=dict(lr=1e-3)),
    adversary=dict(optimizer=dict(lr=1e-3)))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=2001, by_epoch=False)
]
train_cfg = dict(max_iters=2000, val_interval=1000)
