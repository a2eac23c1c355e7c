# game2video for a network that resolves more: larger images, of which training sees random parts,
# mirrored or not.
_base_ = 'game2video.py'
scale = (481, 361)
crop = (361, 225)  # height, width: what lies above and below is always seen

load = _base_.load
labels = _base_.labels
resize = dict(_base_.resize, scale=scale)
augment = [dict(type='RandomCrop', crop_size=crop), dict(type='RandomFlip', prob=0.5)]
source_pipeline = [load, *labels, resize, *augment, dict(type='PackSegInputs')]
target_pipeline = [load, resize, *augment, dict(type='PackSegInputs')]
test_pipeline = [load, resize, *labels, dict(type='PackSegInputs')]

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=source_pipeline))
target_dataloader = dict(batch_size=2, dataset=dict(pipeline=target_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
