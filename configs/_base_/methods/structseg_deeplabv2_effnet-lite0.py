# The paper's terms beside deeplabv2_effnet-lite0-d16.py, G and D a quarter as wide as in the paper.
# They start from nothing and learn faster than at the paper's rates, to matter in a short run.
_base_ = 'structseg.py'
terms = dict(
    reconstruction=dict(decoder=dict(in_channels=320, stride=16, channels=128)),
    adversary=dict(discriminator=dict(channels=32)))
term_optimizers = dict(
    reconstruction=dict(optimizer=dict(lr=1e-3)), adversary=dict(optimizer=dict(lr=1e-3)))
