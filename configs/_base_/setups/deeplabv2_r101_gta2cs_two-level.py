# The paper's network, data and schedule with AdaptSegNet's ([14]) second head, on res4.
_base_ = [
    '../models/deeplabv2_r101-d8.py', '../datasets/gta2cityscapes.py',
    '../schedules/schedule_150k.py', '../default_runtime.py'
]
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
            type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.1)))  # [14]
optim_wrapper = dict(
    segmentor=dict(
        paramwise_cfg=dict(custom_keys=dict(auxiliary_head=dict(lr_mult=10)))))  # [14]
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
