# VFM-UDA's network: DINOv2's ViT-B/14, of which every layer learns, and a light head. Numbers of
# tue-mps/vfm-uda, models/vit_variants/vit_lightweight_head.py.
model = dict(
    type='AdaptationSegmentor',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1),
    backbone=dict(
        type='TIMMEncoder',
        model_name='vit_base_patch14_dinov2.lvd142m',
        # The authors' file has the mask token, which timm's copy has not.
        pretrained='https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/'
        'dinov2_vitb14_pretrain.pth',
        options=dict(dynamic_img_size=True),
        scale=1.1,  # 80 x 80 tokens of a crop of 1024
        mask_token=True),
    decode_head=dict(
        type='VFMUDAHead',
        in_channels=768,
        num_classes=19,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    train_cfg=dict(),
    # Windows, whose logits are averaged here, and softmax in its code.
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(512, 512)))
