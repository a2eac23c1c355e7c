# At a size that a CPU core trains, untuned.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/road.py'
]
model = dict(
    terms=dict(
        distillation=_base_.terms.distillation,
        adversary=dict(
            _base_.terms.adversary,
            discriminator=dict(type='PixelDiscriminator', in_channels=320, channels=(64, )))))
adam = dict(_base_.term_optimizers.adversary.optimizer, lr=1e-3)
optim_wrapper = dict(adversary=dict(optimizer=adam))
