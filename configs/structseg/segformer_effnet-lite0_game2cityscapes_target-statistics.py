_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/target-statistics.py'
]
model = dict(terms=_base_.terms)
