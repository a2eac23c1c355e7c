# GTA5 to Cityscapes in random crops of one size, so that images can be mixed.
_base_ = 'gta2cityscapes.py'
load = _base_.load
labels = _base_.labels
crop = dict(type='RandomCrop', crop_size=(512, 512))
source_resize = dict(_base_.resize, scale=_base_.source_scale)
target_resize = dict(_base_.resize, scale=_base_.target_scale)
source_pipeline = [load, *labels, source_resize, crop, dict(type='PackSegInputs')]
target_pipeline = [load, target_resize, crop, dict(type='PackSegInputs')]

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=source_pipeline))
target_dataloader = dict(batch_size=2, dataset=dict(pipeline=target_pipeline))
