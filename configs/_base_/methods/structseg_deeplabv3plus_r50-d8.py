# The paper's terms beside deeplabv3plus_r50-d8.py, whose logits are at stride 4.
_base_ = 'structseg.py'
terms = dict(
    reconstruction=dict(decoder=dict(in_index=3)),
    adversary=dict(discriminator=dict(dilations=(1, 6, 12, 18))))
