# RAN beside segformer_effnet-lite0.py.
_base_ = 'ran.py'
terms = dict(
    adversary=dict(
        discriminator=dict(in_channels=320, channels=32, dilations=(1, 6, 12, 18)),  # stride 32
        # At 0.2, as in [17], its gradient at the encoder is ten times the segmentation's on
        # game2video, and dev falls from 49.8 to 41.5; at this, where it is a tenth, it rises to
        # 52.2.
        loss_weight=0.002))
term_optimizers = dict(adversary=dict(optimizer=dict(lr=1e-3)))
