# DeepLabv2 on a small encoder whose ImageNet weights pip brings: real runs on a CPU.
model = dict(
    type='AdaptationSegmentor',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],  # what the ImageNet weights were trained with
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1),
    backbone=dict(type='EfficientNetLite', output_stride=16),
    decode_head=dict(
        type='DeepLabV2Head',
        in_channels=320,
        num_classes=19,
        align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    channels_last=True,  # quicker
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
