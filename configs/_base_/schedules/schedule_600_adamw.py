# A quarter of an hour on a CPU core: AdamW learns in hundreds of iterations what SGD at the paper's
# rate does in tens of thousands. The rates of encoder and head were compared with others:
# docs/lab_book.md.
_base_ = 'schedule_150k.py'
optim_wrapper = dict(
    segmentor=dict(
        optimizer=dict(_delete_=True, type='AdamW', lr=5e-4, weight_decay=0.01, fused=True),
        paramwise_cfg=dict(_delete_=True, custom_keys=dict(decode_head=dict(lr_mult=5)))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=601, by_epoch=False)
]
train_cfg = dict(max_iters=600, val_interval=300)
