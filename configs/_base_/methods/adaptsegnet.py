# AdaptSegNet ([14]): a game at each of two levels; a single level is its first term alone.
terms = dict(
    adversary=dict(
        type='Adversary',
        discriminator=dict(type='FCDiscriminator', channels=64),
        mode='non_saturating',
        size='image',  # as in its code
        loss_weight=1e-3),
    auxiliary_adversary=dict(
        type='Adversary',
        discriminator=dict(type='FCDiscriminator', channels=64),
        head='auxiliary_head',
        size='image',
        loss_weight=2e-4))  # [14]
term_optimizers = dict(  # [14]
    adversary=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), fused=True)),
    auxiliary_adversary=dict(
        optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), fused=True)))
