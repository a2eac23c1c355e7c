# As mmseg trains SegFormer on Cityscapes.
_base_ = 'schedule_150k.py'
optim_wrapper = dict(
    segmentor=dict(
        optimizer=dict(_delete_=True, type='AdamW', lr=6e-5, weight_decay=0.01, fused=True),
        paramwise_cfg=dict(
            custom_keys=dict(
                _delete_=True,
                pos_block=dict(decay_mult=0.),
                norm=dict(decay_mult=0.),
                decode_head=dict(lr_mult=10.)))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0, begin=1500, end=160_001, by_epoch=False)
]
train_cfg = dict(max_iters=160_000)
