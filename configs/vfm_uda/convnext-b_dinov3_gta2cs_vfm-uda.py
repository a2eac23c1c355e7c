# VFM-UDA's terms on DINOv3's ConvNeXt-B, whose four stages SegFormer's head takes as they are.
_base_ = 'vit-b_dinov3_gta2cs_vfm-uda.py'
model = dict(
    backbone=dict(
        model_name='convnext_base.dinov3_lvd1689m', out_indices=(0, 1, 2, 3)),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[128, 256, 512, 1024],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        norm_cfg=dict(type='BN')))
