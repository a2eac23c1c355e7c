_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/mic_segformer_effnet-lite0.py'
]
model = dict(terms=_base_.mic)
