# The paper's two terms on mmseg's DeepLabV3+, ResNet-50 at stride 8.
model = dict(
    type='AdvReconSegmentor',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1),
    backbone=dict(
        type='ResNetV1c',
        depth=50,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=dict(type='BN'),
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c')),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        dilations=(1, 12, 24, 36),
        c1_in_channels=256,
        c1_channels=48,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.4)),
    terms=dict(
        reconstruction=dict(
            type='Reconstruction',
            decoder=dict(
                type='ReconstructionDecoder', in_channels=2048, in_index=3, stride=8,
                channels=512),
            loss_weight=1e-5),
        adversary=dict(
            type='Adversary',
            # The head's logits are at stride 4.
            discriminator=dict(type='ASPPDiscriminator', dilations=(1, 6, 12, 18)),
            loss_weight=1e-3)),
    channels_last=True,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
