# At a single level. The weight is that of D of the paper, 0.01, not tuned for this D.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/adaptsegnet_segformer_effnet-lite0.py'
]
model = dict(terms=dict(adversary=dict(_base_.terms.adversary, loss_weight=0.01)))
optim_wrapper = _base_.term_optimizers
