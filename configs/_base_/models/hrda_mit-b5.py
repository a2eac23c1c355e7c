# HRDA's network: DAFormer's on two scales (lhoyer/HRDA, configs/hrda/gtaHR2csHR_hrda.py).
_base_ = 'daformer_mit-b5.py'
head = dict(
    type='DAFormerHead',
    in_channels=[64, 128, 320, 512],
    channels=256,
    dilations=(1, 6, 12, 18),
    dropout_ratio=0.1,
    norm_cfg=dict(type='BN'))
model = dict(
    backbone=dict(
        _delete_=True,
        type='TwoScales',
        backbone=_base_.model.backbone,
        window=512,  # of crops of 1,024
        cell=8),
    decode_head=dict(
        _delete_=True,
        type='HRDAHead',
        head=head,
        attention=dict(head, dilations=None),
        detail_weight=0.1,
        num_classes=19,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=False)),  # all pixels
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(512, 512)))
