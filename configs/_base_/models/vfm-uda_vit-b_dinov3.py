# VFM-UDA's network on DINOv3's ViT-B/16, which nobody has published: 64 x 64 tokens of a crop of
# 1024. timm downloads the weights, under DINOv3's own licence and without the mask token.
_base_ = 'vfm-uda_vit-b_dinov2.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='TIMMEncoder',
        model_name='vit_base_patch16_dinov3.lvd1689m',
        pretrained=True))
