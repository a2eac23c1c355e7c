# The three steps at a size that a CPU core trains.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/mcd_segformer_effnet-lite0.py'
]
model = dict(
    auxiliary_head=_base_.model.decode_head, terms=_base_.terms, steps=_base_.steps)
optim_wrapper = _base_.term_optimizers
