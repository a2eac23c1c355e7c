# The paper's two terms. [14] is AdaptSegNet, whose setting it follows, [8] UNIT and [17] FCAN. A
# leaf says model.terms=_base_.terms, or picks one, and optim_wrapper=_base_.term_optimizers.
terms = dict(
    reconstruction=dict(  # Equation 1
        type='Reconstruction',
        decoder=dict(  # G
            type='ReconstructionDecoder',
            in_channels=2048,
            stride=8,
            channels=512,  # [8]
            num_blocks=4),  # [8]
        loss_weight=1e-5),  # section 4.2
    adversary=dict(  # Equation 2
        type='Adversary',
        discriminator=dict(  # D
            type='ASPPDiscriminator',
            channels=128,  # [17]
            dilations=(1, 2, 3, 4)),  # section 4.2
        mode='non_saturating',  # as [14] trains; 'minimax' is Equation 2 to the letter
        loss_weight=1e-3))  # section 4.2
term_optimizers = dict(
    # G, which [14] does not have: the one rate that section 4.2 names.
    reconstruction=dict(optimizer=dict(type='Adam', lr=2.5e-4, betas=(0.9, 0.99), fused=True)),
    # D, as in [14]; section 4.2: "momentum of 0.99".
    adversary=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), fused=True)))
