# The paper's terms on a ViT-B/16: G decodes the last block's tokens, at stride 16, a power of two
# as it must be; DINOv2's patches of 14 pixels are not.
_base_ = 'structseg.py'
terms = dict(
    reconstruction=dict(decoder=dict(in_channels=768, stride=16)),
    adversary=dict(discriminator=dict(channels=64)))
