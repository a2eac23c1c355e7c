# The feature stage of CyCADA beside segformer_effnet-lite0.py; its weight is that of [6], untuned.
_base_ = 'cycada.py'
# A quarter as wide as in [6], as all D here.
terms = dict(adversary=dict(discriminator=dict(channels=(128, 64))))
term_optimizers = dict(
    adversary=dict(
        optimizer=dict(_delete_=True, type='Adam', lr=1e-3, betas=(0.9, 0.99), fused=True)))
