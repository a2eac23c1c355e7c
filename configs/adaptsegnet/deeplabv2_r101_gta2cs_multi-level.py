# A second head and a second D on res4: 42.4 mIoU in [14], the row AdaptSeg of Table 1.
_base_ = 'deeplabv2_r101_gta2cs_single-level.py'
model = dict(
    backbone=dict(out_indices=(2, 3)),  # res4, res5
    auxiliary_head=dict(
        type='DeepLabV2Head',
        in_channels=1024,
        in_index=0,
        dilations=(6, 12, 18, 24),
        num_classes=19,
        align_corners=True,
        loss_decode=dict(
            type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.1)),  # [14]
    terms=dict(
        auxiliary_adversary=dict(
            type='Adversary',
            discriminator=dict(type='FCDiscriminator', channels=64),
            head='auxiliary_head',
            size='image',
            loss_weight=2e-4)))  # [14]
optim_wrapper = dict(
    segmentor=dict(paramwise_cfg=dict(custom_keys=dict(auxiliary_head=dict(lr_mult=10)))),  # [14]
    auxiliary_adversary=dict(
        optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), fused=True)))  # [14]
