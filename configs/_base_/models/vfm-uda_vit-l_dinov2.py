# As vfm-uda_vit-b_dinov2.py, on ViT-L/14.
_base_ = 'vfm-uda_vit-b_dinov2.py'
model = dict(
    backbone=dict(
        model_name='vit_large_patch14_dinov2.lvd142m',
        pretrained='https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/'
        'dinov2_vitl14_pretrain.pth',
        with_cp=True),  # what it keeps otherwise: docs/foundation_models.md
    decode_head=dict(in_channels=1024))
