_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/daformer_segformer_effnet-lite0.py'
]
model = dict(terms=_base_.daformer)
