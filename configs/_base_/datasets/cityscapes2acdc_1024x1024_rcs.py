# Cityscapes to ACDC as gta2cityscapes_1024x1024_rcs.py, which VFM-UDA does not have; statistics to
# $CITYSCAPES/class_pixels.json.
_base_ = ['cityscapes2acdc.py', 'crops_1024x1024.py']
source_resize = dict(_base_.short_side, scale=(4096, 1024))
target_resize = dict(_base_.short_side, scale=(4096, 1080))  # HRDA's, give or take a tenth
test_resize = dict(_base_.resize, scale=(1920, 1080))  # as the images are
target_pipeline = [_base_.load, _base_.margins, target_resize, *_base_.target_steps]
test_pipeline = [
    _base_.load, test_resize, dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]

train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _delete_=True,
        **_base_.sampling,
        statistics=f'{_base_.cityscapes_root}/class_pixels.json',
        dataset=dict(
            _base_.train_dataloader.dataset,
            pipeline=[_base_.load, *_base_.labels, source_resize, *_base_.source_steps])))
target_dataloader = dict(
    batch_size=2,
    dataset=dict(datasets=[
        dict(dataset, pipeline=target_pipeline)
        for dataset in _base_.target_dataloader.dataset.datasets
    ]))
val_dataloader = dict(
    dataset=dict(datasets=[
        dict(dataset, pipeline=test_pipeline)
        for dataset in _base_.val_dataloader.dataset.datasets
    ]))
test_dataloader = val_dataloader
