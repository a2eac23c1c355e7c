# The paper's terms beside deeplabv3plus_r50-d8.py.
_base_ = 'structseg.py'
terms = dict(reconstruction=dict(decoder=dict(in_index=3)))
