# DeepLabv2 as DAFormer's and MIC's code has it (configs/_base_/models/deeplabv2red_r50-d8.py, depth
# by experiments.py): ResNet-101-v1c at stride 8, two dilations. Values that are not in their files
# are mmseg's.
model = dict(
    type='AdaptationSegmentor',
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
        depth=101,
        out_indices=(3, ),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet101_v1c')),
    decode_head=dict(
        type='DeepLabV2Head',
        in_channels=2048,
        dilations=(6, 12),
        num_classes=19,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=False)),  # all pixels
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
