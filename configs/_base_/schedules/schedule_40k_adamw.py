# DAFormer's: 40,000 iterations, of which the first 1,500 multiply the decaying rate.
_base_ = 'schedule_160k_adamw.py'
optim_wrapper = dict(
    segmentor=dict(
        optimizer=dict(lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
        # The norms at the end of MiT's stages, whose names have no norm in mmseg 1.
        paramwise_cfg=dict(
            custom_keys={f'layers.{stage}.2.': dict(decay_mult=0.)
                         for stage in range(4)})))
# mmengine divides by end - begin - 1: (1 - i / 40000) min(1, i / 1500), from 1e-6.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1501, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0, begin=0, end=40_001, by_epoch=False)
]
train_cfg = dict(max_iters=40_000, val_interval=4000)
