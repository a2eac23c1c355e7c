# DAFormer (Hoyer et al., CVPR 2022), as its code trains on GTA5 or SYNTHIA to Cityscapes.
# Rare-class sampling is in the data set, ../datasets/gta2cityscapes_512x512_rcs.py.
_base_ = 'dacs.py'
daformer = dict(
    self_training=dict(
        _base_.dacs.self_training,
        alpha=0.999,
        ema_at='start',
        classes_of='batch',
        jitter=0.2,
        margins=(15, 120)),  # of 512 rows
    feature_distance=dict(
        type='FeatureDistance',
        classes=(6, 7, 11, 12, 13, 14, 15, 16, 17, 18),  # things
        min_ratio=0.75,
        loss_weight=0.005))
