# The paper's terms beside segformer_mit-b0.py. As on Lite0 with this head, G is at stride 16.
_base_ = 'structseg.py'
terms = dict(
    reconstruction=dict(decoder=dict(in_channels=160, in_index=2, stride=16, channels=256)),
    adversary=dict(discriminator=dict(channels=64)))
