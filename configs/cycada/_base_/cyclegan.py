# CycleGAN with the defaults of its code, which CyCADA's street translator is said to follow.
_base_ = '../../_base_/default_runtime.py'
model = dict(
    type='CycleGAN',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],  # [-1, 1], as the generators' tanh
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1),
    generator=dict(type='ResNetGenerator', channels=64, num_blocks=9),
    discriminator=dict(type='PatchDiscriminator', channels=64),
    crop_size=(512, 512),
    pool_size=50,
    cycle_weight=10,
    identity_weight=0.5)
adam = dict(type='Adam', lr=2e-4, betas=(0.5, 0.999), fused=True)
optim_wrapper = dict(
    constructor='AdaptationOptimWrapperConstructor',
    type='OptimWrapper',
    generators=dict(modules=['to_target', 'to_source'], optimizer=adam),
    discriminators=dict(
        modules=['target_discriminator', 'source_discriminator'], optimizer=adam))
# Constant rates for the first half, then linearly to 0.
param_scheduler = [
    dict(type='LinearLR', start_factor=1, end_factor=0, begin=100_000, end=200_001, by_epoch=False)
]
train_cfg = dict(type='AdaptationTrainLoop', max_iters=200_000)
val_cfg = test_cfg = None  # images are judged by what a segmentor learns from them
