# Stage 3 alone: from ../structseg/segformer_effnet-lite0_game2cityscapes_source-only.py, at its
# rates and for its length.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/cycada_segformer_effnet-lite0.py'
]
model = dict(terms=_base_.terms, steps=_base_.steps)
optim_wrapper = _base_.term_optimizers
load_from = 'work_dirs/segformer_effnet-lite0_game2cityscapes_source-only/iter_600.pth'
