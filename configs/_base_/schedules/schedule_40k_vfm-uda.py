# VFM-UDA's: numbers of tue-mps/vfm-uda, training/uda_vit/uda_vit_generic.py.
_base_ = 'schedule_150k.py'
optim_wrapper = dict(
    segmentor=dict(
        optimizer=dict(
            _delete_=True,
            type='AdamW',
            lr=5e-5 * 8**0.5,  # the root of the images of a domain in an iteration of all ranks
            weight_decay=0.01,  # of norms, biases and positions, too
            fused=True),
        paramwise_cfg=dict(_delete_=True, custom_keys=dict(backbone=dict(lr_mult=0.1)))))
# From 1e-3 to 1 at iteration 1,499; then 1 - i / 40000, that is, a jump to 0.9625.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1500, by_epoch=False),
    dict(type='ConstantLR', factor=1 - 1500 / 40_000, begin=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0, begin=1500, end=40_001, by_epoch=False)
]
train_cfg = dict(max_iters=40_000, val_interval=4000)
