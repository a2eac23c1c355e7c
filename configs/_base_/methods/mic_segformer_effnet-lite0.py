# MIC in a run of 600 iterations, on game2video's nine classes; blocks are as large a part of the
# image as published.
_base_ = 'daformer_segformer_effnet-lite0.py'
mic = dict(
    **_base_.daformer,
    masked=dict(type='MaskedConsistency', block=16))
