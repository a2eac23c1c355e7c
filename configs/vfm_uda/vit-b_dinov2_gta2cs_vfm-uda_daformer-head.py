# With DAFormer's decoder on a pyramid of four blocks' features, at 4, 2, 1 and half of their size.
_base_ = 'vit-b_dinov2_gta2cs_vfm-uda.py'
model = dict(
    backbone=dict(out_indices=(2, 5, 8, 11)),
    neck=dict(
        type='Feature2Pyramid',
        embed_dim=768,
        rescales=[4, 2, 1, 0.5],
        norm_cfg=dict(type='BN')),
    decode_head=dict(
        type='DAFormerHead',
        in_channels=[768, 768, 768, 768],
        channels=256,
        dilations=(1, 6, 12, 18),
        norm_cfg=dict(type='BN')))
