# Beside both of the paper's terms.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/dacs_segformer_effnet-lite0.py',
    '../_base_/methods/structseg_segformer_effnet-lite0_wide.py'
]
model = dict(type='AdvReconSegmentor', terms={**_base_.dacs, **_base_.terms})
optim_wrapper = _base_.term_optimizers
