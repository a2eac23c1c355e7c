# Beside the paper's game.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/dacs_segformer_effnet-lite0.py',
    '../_base_/methods/structseg_segformer_effnet-lite0.py'
]
model = dict(
    type='AdvReconSegmentor',
    terms=dict(**_base_.dacs, adversary=_base_.terms.adversary))
optim_wrapper = dict(adversary=_base_.term_optimizers.adversary)
