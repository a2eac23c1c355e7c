# SYNTHIA to Cityscapes in random crops of one size, so that images can be mixed.
_base_ = 'synthia2cityscapes.py'
crop = dict(type='RandomCrop', crop_size=(512, 512))
*source_steps, pack = _base_.train_dataloader.dataset.pipeline
target_steps = _base_.target_dataloader.dataset.pipeline[:-1]

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=[*source_steps, crop, pack]))
target_dataloader = dict(batch_size=2, dataset=dict(pipeline=[*target_steps, crop, pack]))
