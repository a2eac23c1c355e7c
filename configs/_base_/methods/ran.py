# RAN ([17]), its second stage: a game on res5c.
terms = dict(
    adversary=dict(
        type='Adversary',
        of='features',
        discriminator=dict(
            type='ASPPDiscriminator',
            in_channels=2048,
            channels=128,  # [17]
            dilations=(1, 2, 3, 4),
            first_layer=False),  # two layers in [17]
        mode='minimax',  # [17]: both domains, saturating
        loss_weight=0.2))  # [17] has 5 on the segmentation's loss, so a leaf's rate is 5 times its
term_optimizers = dict(
    adversary=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), fused=True)))
