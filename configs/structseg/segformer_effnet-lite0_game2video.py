# The full method.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/structseg_segformer_effnet-lite0.py'
]
model = dict(
    type='AdvReconSegmentor',
    terms=dict(
        # At the paper's 1e-5 its gradient at the encoder is a quarter of the segmentation's, here a
        # twentieth.
        reconstruction=dict(_base_.terms.reconstruction, loss_weight=1e-6),
        adversary=_base_.terms.adversary))
optim_wrapper = _base_.term_optimizers
