# FCNs in the wild on the network and schedule of configs/structseg. First, once:
# python tools/dataset_converters/count_class_sizes.py THIS_CONFIG $GTA5/class_sizes.json
_base_ = [
    '../structseg/deeplabv2_r101_gta2cs_source-only.py',
    '../_base_/methods/fcns-in-the-wild.py'
]
model = dict(
    terms=dict(
        adversary=_base_.terms.adversary,
        class_size=dict(
            _base_.terms.class_size, statistics=f'{_base_.gta_root}/class_sizes.json')))
optim_wrapper = _base_.term_optimizers
