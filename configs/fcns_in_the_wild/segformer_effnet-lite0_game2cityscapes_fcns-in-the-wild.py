# At a size that a CPU core trains. The sizes are game2video's, of whole images, where training sees
# crops. First, once:
# python tools/dataset_converters/count_class_sizes.py THIS_CONFIG $GAME2VIDEO/class_sizes.json
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py',
    '../_base_/methods/fcns-in-the-wild_segformer_effnet-lite0.py'
]
model = dict(
    terms=dict(
        adversary=_base_.terms.adversary,
        class_size=dict(
            _base_.terms.class_size, statistics=f'{_base_.data_root}/class_sizes.json')))
optim_wrapper = _base_.term_optimizers
