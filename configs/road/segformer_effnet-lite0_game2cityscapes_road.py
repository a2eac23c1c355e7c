# At a size that a CPU core trains, untuned.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/road_segformer_effnet-lite0.py'
]
model = dict(terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
