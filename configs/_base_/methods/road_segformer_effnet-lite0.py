# ROAD beside segformer_effnet-lite0.py, untuned.
_base_ = 'road.py'
terms = dict(adversary=dict(discriminator=dict(in_channels=320, channels=(64, ))))
term_optimizers = dict(adversary=dict(optimizer=dict(lr=1e-3)))
