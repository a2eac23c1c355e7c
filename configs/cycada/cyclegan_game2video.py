# Stage 1 on game2video, for a CPU core: crops of half the sides, networks of a quarter of the width
# and four blocks, 2,000 iterations. Nothing here is tuned.
_base_ = ['_base_/cyclegan.py', '../_base_/datasets/game2video.py']
crop_size = (180, 240)
model = dict(
    generator=dict(channels=16, num_blocks=4),
    discriminator=dict(channels=16),
    crop_size=crop_size)
pipeline = [
    _base_.load,
    dict(_base_.resize, scale=(480, 360)),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
target_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = val_evaluator = test_dataloader = test_evaluator = None
param_scheduler = [
    dict(type='LinearLR', start_factor=1, end_factor=0, begin=1000, end=2001, by_epoch=False)
]
train_cfg = dict(max_iters=2000)
default_hooks = dict(checkpoint=dict(interval=500))
