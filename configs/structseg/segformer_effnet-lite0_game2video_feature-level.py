_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/structseg_segformer_effnet-lite0_wide.py'
]
model = dict(type='AdvReconSegmentor', terms=dict(reconstruction=_base_.terms.reconstruction))
optim_wrapper = dict(reconstruction=_base_.term_optimizers.reconstruction)
