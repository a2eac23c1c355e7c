# As vfm-uda_vit-b_dinov3.py, on ViT-L/16.
_base_ = 'vfm-uda_vit-b_dinov3.py'
model = dict(
    backbone=dict(
        model_name='vit_large_patch16_dinov3.lvd1689m',
        with_cp=True),  # what it keeps otherwise: docs/foundation_models.md
    decode_head=dict(in_channels=1024))
