_base_ = [
    'deeplabv2_effnet-lite0_game2video_source-only.py',
    '../_base_/methods/structseg_deeplabv2_effnet-lite0.py'
]
model = dict(type='AdvReconSegmentor', terms=dict(adversary=_base_.terms.adversary))
optim_wrapper = dict(adversary=_base_.term_optimizers.adversary)
