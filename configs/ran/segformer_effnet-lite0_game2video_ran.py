# From ../structseg/segformer_effnet-lite0_game2video_source-only.py, at its rates and for its
# length.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/ran.py'
]
model = dict(
    terms=dict(
        adversary=dict(
            _base_.terms.adversary,
            discriminator=dict(
                type='ASPPDiscriminator',
                in_channels=320,  # stride 32
                channels=32,
                dilations=(1, 6, 12, 18),
                first_layer=False),
            # At 0.2, as in [17], its gradient at the encoder is ten times the segmentation's here,
            # and dev falls from 49.8 to 41.5; at this, where it is a tenth, it rises to 52.2.
            loss_weight=0.002)))
adam = dict(_base_.term_optimizers.adversary.optimizer, lr=1e-3)
optim_wrapper = dict(adversary=dict(optimizer=adam))
load_from = 'work_dirs/segformer_effnet-lite0_game2video_source-only/iter_600.pth'
