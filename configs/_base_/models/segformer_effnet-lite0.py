# A small encoder at stride 32 with SegFormer's head, which joins the features of all strides: it
# sees poles and signs, where DeepLabV2Head on stride 16 cannot, at less cost.
_base_ = 'deeplabv2_effnet-lite0-d16.py'
model = dict(
    backbone=dict(output_stride=32),
    decode_head=dict(
        _delete_=True,
        type='SegformerHead',
        in_channels=[24, 40, 112, 320],  # strides 4, 8, 16, 32
        in_index=[0, 1, 2, 3],
        channels=96,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type='BN'),
        align_corners=True,
        loss_decode=[
            dict(type='CrossEntropyLoss', avg_non_ignore=True),
            # Rare and thin classes count as much as the road from the start.
            dict(type='LovaszLoss', reduction='none')
        ]))
