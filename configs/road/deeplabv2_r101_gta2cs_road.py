# ROAD on the network and schedule of configs/structseg.
_base_ = '../structseg/deeplabv2_r101_gta2cs.py'
model = dict(
    terms=dict(
        reconstruction=None,
        distillation=dict(
            type='Distillation', encoder=_base_.model.backbone, loss_weight=0.1),
        adversary=dict(
            _delete_=True,
            type='RegionAdversary',
            discriminator=dict(type='PixelDiscriminator', in_channels=2048, channels=(256, )),
            loss_weight=0.01)))
