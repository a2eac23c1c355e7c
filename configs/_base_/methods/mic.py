# MIC (Hoyer et al., CVPR 2023) on DAFormer, as its code trains with crops of 512.
_base_ = 'daformer.py'
mic = dict(
    **_base_.daformer,
    masked=dict(
        type='MaskedConsistency',
        block=32,
        ratio=0.7,
        jitter=0.2,
        loss_weight=1.))
