# GTA5 to Cityscapes as VFM-UDA reads it. First, once, for rare-class sampling:
# python tools/dataset_converters/count_class_sizes.py CONFIG $GTA5/class_pixels.json --pixels
_base_ = ['gta2cityscapes.py', 'crops_1024x1024.py']
source_resize = dict(_base_.short_side, scale=(4096, 1440))
target_resize = dict(_base_.short_side, scale=(4096, 1024))
test_resize = dict(_base_.resize, scale=(2048, 1024))  # as the images are

train_dataloader = dict(
    batch_size=2,  # on each of 4 GPUs
    dataset=dict(
        _delete_=True,
        **_base_.sampling,
        statistics=f'{_base_.gta_root}/class_pixels.json',
        dataset=dict(
            _base_.train_dataloader.dataset,
            pipeline=[_base_.load, *_base_.labels, source_resize, *_base_.source_steps])))
target_dataloader = dict(
    batch_size=2,
    dataset=dict(pipeline=[_base_.load, _base_.margins, target_resize, *_base_.target_steps]))
val_dataloader = dict(
    dataset=dict(pipeline=[_base_.load, test_resize, *_base_.labels, dict(type='PackSegInputs')]))
test_dataloader = val_dataloader
