# DACS (Tranheden et al., WACV 2021), as its code (trainUDA.py) trains. Terms stand under the
# method's name, so that a config can take those of several methods:
# terms={**_base_.dacs, **_base_.terms}.
dacs = dict(
    self_training=dict(
        type='SelfTraining',
        threshold=0.968,
        alpha=0.99,
        ema_at='end',
        ema_of='parameters',
        teacher_mode='train',
        mirrored=False,
        q_of='batch',
        margins=(0, 0),
        mean_over='all',
        classes_of='image',
        jitter=0.25,
        weak_jitter=False,
        loss_weight=1.))
