# ROAD: the encoder keeps what ImageNet taught it, and each image region is a game.
terms = dict(
    distillation=dict(type='Distillation', loss_weight=0.1),
    adversary=dict(
        type='RegionAdversary',
        discriminator=dict(type='PixelDiscriminator', in_channels=2048, channels=(256, )),
        loss_weight=0.01))
term_optimizers = dict(
    adversary=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), fused=True)))
