# The three steps at a size that a CPU core trains; rates as in configs/structseg, untuned.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/mcd.py'
]
model = dict(
    auxiliary_head=_base_.model.decode_head, terms=_base_.terms, steps=_base_.steps)
optim_wrapper = dict(
    heads=dict(
        modules=['decode_head', 'auxiliary_head'],
        optimizer=dict(type='AdamW', lr=2.5e-3, weight_decay=0.01, fused=True)))
