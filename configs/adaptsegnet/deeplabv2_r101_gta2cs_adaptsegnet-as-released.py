# As [14]'s released code acts, which is not all as its paper says; its checkpoints fit.
_base_ = 'deeplabv2_r101_gta2cs_adaptsegnet-multi-level.py'
model = dict(
    backbone=dict(init_cfg=None),  # load_from has it
    # Its loop over the classifiers returns after the second.
    decode_head=dict(dilations=(6, 12)),
    auxiliary_head=dict(dilations=(6, 12)))
# It lists convolutions of blocks three times in its optimizer, those of downsampling four times.
optim_wrapper = dict(
    segmentor=dict(
        paramwise_cfg=dict(custom_keys={
            'backbone.layer': dict(lr_mult=3),
            'downsample.0.weight': dict(lr_mult=4)  # the longer key wins
        })))
# DeepLab_resnet_pretrained_init-f81d91e8.pth, ImageNet and COCO, by adaptsegnet2mmseg.py
load_from = 'work_dirs/adaptsegnet/init.pth'
