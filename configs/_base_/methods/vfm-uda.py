# VFM-UDA (Englert et al., CVPR Workshops 2024): numbers of tue-mps/vfm-uda,
# training/uda_vit/uda_vit_generic.py and uda_vit_vanilla.yaml. Margins and rare-class sampling are
# in the data set, ../datasets/gta2cityscapes_1024x1024_rcs.py.
_base_ = 'dacs.py'
vfm_uda = dict(
    self_training=dict(
        _base_.dacs.self_training,
        alpha=0.999,
        ema_at='start',
        ema_of='state',
        mirrored=True,
        classes_of='batch',
        jitter=0.2,
        weak_jitter=True),
    masked=dict(type='MaskedConsistency', tokens=True, ratio=0.7, jitter=0.2))
# Its uda_vit_blockmasking.yaml, for encoders whose mask token is not at hand.
vfm_uda_blocks = dict(
    vfm_uda, masked=dict(type='MaskedConsistency', block=64, ratio=0.7, jitter=0.2))
