# FCNs in the wild on the network and schedule of configs/structseg. First, once:
# python tools/dataset_converters/count_class_sizes.py THIS_CONFIG $GTA5/class_sizes.json
_base_ = '../structseg/deeplabv2_r101_gta2cs.py'
model = dict(
    terms=dict(
        reconstruction=None,
        adversary=dict(  # L_da
            of='features',
            mode='confusion',
            discriminator=dict(
                _delete_=True, type='PixelDiscriminator', in_channels=2048, dropout=0.5)),
        class_size=dict(  # L_mi
            type='ClassSize', statistics=f'{_base_.gta_root}/class_sizes.json')))
