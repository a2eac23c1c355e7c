# At a size that a CPU core trains. First, once:
# python tools/dataset_converters/count_class_sizes.py THIS_CONFIG $GAME2VIDEO/class_sizes.json
_base_ = '../structseg/segformerhead_lite0_game2video.py'
model = dict(
    terms=dict(
        reconstruction=None,
        adversary=dict(
            of='features',
            mode='confusion',
            discriminator=dict(
                _delete_=True, type='PixelDiscriminator', in_channels=320, channels=(256, 256),
                dropout=0.5)),
        class_size=dict(
            type='ClassSize',
            statistics=f'{_base_.data_root}/class_sizes.json',
            loss_weight=0.01)))  # by dev; at the paper's 1 all is lost (README.md)
