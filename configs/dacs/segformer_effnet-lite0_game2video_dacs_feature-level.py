# Beside the paper's reconstruction.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/dacs_segformer_effnet-lite0.py',
    '../_base_/methods/structseg_segformer_effnet-lite0_wide.py'
]
model = dict(
    type='AdvReconSegmentor',
    terms=dict(**_base_.dacs, reconstruction=_base_.terms.reconstruction))
optim_wrapper = dict(reconstruction=_base_.term_optimizers.reconstruction)
