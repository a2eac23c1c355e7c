# As on GTA5; not published.
_base_ = [
    '../_base_/models/deeplabv2_r101v1c-d8.py',
    '../_base_/datasets/synthia2cityscapes_512x512_rcs.py',
    '../_base_/schedules/schedule_40k_adamw.py', '../_base_/default_runtime.py',
    '../_base_/methods/mic.py'
]
model = dict(
    decode_head=dict(num_classes=16),
    terms=dict(
        _base_.mic,
        # The things among SYNTHIA's 16 classes.
        feature_distance=dict(_base_.mic.feature_distance, classes=(6, 7, *range(10, 16)))))
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
