# The three steps at a size that a CPU core trains; rates as in configs/structseg, untuned.
_base_ = '../structseg/segformerhead_lite0_game2video.py'
model = dict(
    auxiliary_head=_base_.model.decode_head,
    terms=dict(reconstruction=None, adversary=None, discrepancy=dict(type='Discrepancy')),
    steps=[
        dict(name='A', passes=['source']),
        dict(name='B', passes=['target', 'source'], parts=['heads']),
        dict(name='C', passes=['target'], parts=['segmentor'], times=2)
    ])
optim_wrapper = dict(
    heads=dict(
        modules=['decode_head', 'auxiliary_head'],
        optimizer=dict(type='AdamW', lr=2.5e-3, weight_decay=0.01, fused=True)))
