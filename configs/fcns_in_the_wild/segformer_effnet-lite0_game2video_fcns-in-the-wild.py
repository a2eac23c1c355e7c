# At a size that a CPU core trains. First, once:
# python tools/dataset_converters/count_class_sizes.py THIS_CONFIG $GAME2VIDEO/class_sizes.json
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/fcns-in-the-wild.py'
]
model = dict(
    terms=dict(
        adversary=dict(
            _base_.terms.adversary,
            discriminator=dict(
                type='PixelDiscriminator', in_channels=320, channels=(256, 256), dropout=0.5),
            loss_weight=0.1),
        class_size=dict(
            _base_.terms.class_size,
            statistics=f'{_base_.data_root}/class_sizes.json',
            loss_weight=0.01)))  # by dev; at the paper's 1 all is lost (README.md)
adam = dict(_base_.term_optimizers.adversary.optimizer, lr=1e-3)
optim_wrapper = dict(adversary=dict(optimizer=adam))
