# At a size that a CPU core trains, untuned.
_base_ = '../structseg/segformerhead_lite0_game2video.py'
model = dict(
    terms=dict(
        reconstruction=None,
        distillation=dict(
            type='Distillation', encoder=_base_.model.backbone, loss_weight=0.1),
        adversary=dict(
            _delete_=True,
            type='RegionAdversary',
            discriminator=dict(type='PixelDiscriminator', in_channels=320, channels=(64, )),
            loss_weight=0.01)))
