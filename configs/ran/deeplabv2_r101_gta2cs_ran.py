# The second stage of RAN ([17]): the game on res5c, from the first stage's end.
_base_ = [
    '../structseg/deeplabv2_r101_gta2cs_source-only.py',
    '../_base_/methods/ran.py'
]
model = dict(terms=_base_.terms)
optim_wrapper = dict(
    _base_.term_optimizers,
    # [17] has a weight of 5 on the segmentation's loss: with its rate of 1e-4 and its decay of
    # 5e-4, this is the same step.
    segmentor=dict(optimizer=dict(lr=5 * 1e-4, weight_decay=5e-4 / 5)))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=10_001, by_epoch=False)  # [17]
]
train_dataloader = dict(batch_size=4)  # [17] says 8, which may be 4 of each domain
target_dataloader = dict(batch_size=4)
train_cfg = dict(max_iters=10_000)  # [17]
load_from = 'work_dirs/deeplabv2_r101_gta2cs_ran_source-only/iter_30000.pth'
