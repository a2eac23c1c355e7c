# The full method at a size that two CPU cores train in minutes.
_base_ = [
    'deeplabv2_effnet-lite0_game2video_source-only.py',
    '../_base_/methods/structseg_deeplabv2_effnet-lite0.py'
]
model = dict(type='AdvReconSegmentor', terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
