# Cityscapes to ACDC in random crops of one size, as DAFormer reads it; statistics as in
# gta2cityscapes_512x512_rcs.py, to $CITYSCAPES/class_pixels.json.
_base_ = 'cityscapes2acdc.py'
crop = dict(type='RandomCrop', crop_size=(512, 512))
flip = dict(type='RandomFlip', prob=0.5)
# No class fills more than three quarters of a crop.
source_crop = dict(crop, cat_max_ratio=0.75)
*source_steps, pack = _base_.train_dataloader.dataset.pipeline
target_pipeline = [_base_.load, _base_.resize, crop, flip, pack]

train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _delete_=True,
        type='RareClassSampling',
        statistics=f'{_base_.cityscapes_root}/class_pixels.json',
        temperature=0.01,
        min_pixels=3000,
        min_crop_ratio=0.5,
        dataset=dict(
            _base_.train_dataloader.dataset,
            pipeline=[*source_steps, source_crop, flip, pack])))
target_dataloader = dict(
    batch_size=2,
    dataset=dict(datasets=[
        dict(dataset, pipeline=target_pipeline)
        for dataset in _base_.target_dataloader.dataset.datasets
    ]))
