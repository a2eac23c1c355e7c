# The first stage of RAN ([17]): the source alone.
_base_ = '../structseg/deeplabv2_r101_gta2cs_source-only.py'
optim_wrapper = dict(segmentor=dict(optimizer=dict(lr=2.5e-3)))  # [17]
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=30_001, by_epoch=False)  # [17]
]
train_dataloader = dict(batch_size=6)  # [17]
train_cfg = dict(max_iters=30_000)  # [17]
