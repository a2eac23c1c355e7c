# GTA5 to Cityscapes as DAFormer reads it. First, once, for rare-class sampling:
# python tools/dataset_converters/count_class_sizes.py CONFIG $GTA5/class_pixels.json --pixels
_base_ = 'gta2cityscapes_512x512.py'
flip = dict(type='RandomFlip', prob=0.5)
# No class fills more than three quarters of a crop.
source_crop = dict(_base_.crop, cat_max_ratio=0.75)
source_pipeline = [
    _base_.load, *_base_.labels, _base_.source_resize, source_crop, flip,
    dict(type='PackSegInputs')
]
target_pipeline = [
    _base_.load, _base_.target_resize, _base_.crop, flip,
    dict(type='PackSegInputs')
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RareClassSampling',
        statistics=f'{_base_.gta_root}/class_pixels.json',
        temperature=0.01,
        min_pixels=3000,
        min_crop_ratio=0.5,
        dataset=dict(_base_.train_dataloader.dataset, pipeline=source_pipeline)))
target_dataloader = dict(dataset=dict(pipeline=target_pipeline))
