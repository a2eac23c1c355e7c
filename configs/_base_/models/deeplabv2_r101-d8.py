# The paper's network (section 4.2): DeepLabv2 on ResNet-101. [14] is AdaptSegNet, whose setting it
# follows.
model = dict(
    type='AdaptationSegmentor',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[104.00698793, 116.66876762, 122.67891434],  # BGR, [14]
        std=[1, 1, 1],
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1),  # images of one size are not padded
    # The encoder E: res5c at stride 8, the settings of [14].
    backbone=dict(
        type='DeepLabResNet',
        depth=101,
        out_indices=(3, ),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        style='caffe',
        norm_cfg=dict(type='BN', requires_grad=False),  # gamma and beta frozen ...
        norm_eval=False,  # ... while the statistics are the batch's
        # Its near-namesake detectron/resnet101_caffe has the statistics merged into gamma and beta.
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet101_caffe')),
    # The head S.
    decode_head=dict(
        type='DeepLabV2Head',
        in_channels=2048,
        dilations=(6, 12, 18, 24),  # reference [1]
        num_classes=19,  # section 4.1
        align_corners=True,  # without it 40.8 instead of 42.4, issue 11 of [14]'s code
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    channels_last=True,  # quicker
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
