_base_ = [
    'deeplabv2_effnet-lite0_game2video_source-only.py',
    '../_base_/methods/structseg_deeplabv2_effnet-lite0.py'
]
model = dict(type='AdvReconSegmentor', terms=dict(reconstruction=_base_.terms.reconstruction))
optim_wrapper = dict(reconstruction=_base_.term_optimizers.reconstruction)
