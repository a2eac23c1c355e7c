# Stage 3 alone: from ../structseg/segformer_effnet-lite0_game2video_source-only.py, at its rates
# and for its length. On translated images: segformer_effnet-lite0_game2video_cycada.py.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/cycada.py'
]
model = dict(
    terms=dict(
        adversary=dict(
            _base_.terms.adversary,  # its weight is that of [6], not tuned
            # A quarter as wide as in [6], as all D here.
            discriminator=dict(type='PixelDiscriminator', channels=(128, 64), dropout=0.5))),
    steps=_base_.steps)
optim_wrapper = dict(
    adversary=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.9, 0.99), fused=True)))
load_from = 'work_dirs/segformer_effnet-lite0_game2video_source-only/iter_600.pth'
