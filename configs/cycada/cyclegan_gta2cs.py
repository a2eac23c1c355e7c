# Stage 1 of CyCADA: GTA5 in the style of Cityscapes. Width 1024 is the authors', crops of 512 are
# what others report (the authors: 400); 200,000 iterations are another library's.
_base_ = ['_base_/cyclegan.py', '../_base_/datasets/gta2cityscapes.py']
random = [
    dict(type='RandomCrop', crop_size=_base_.model.crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
source_resize = dict(**_base_.resize, scale=(1024, 564))  # 4 divides both
target_resize = dict(**_base_.resize, scale=(1024, 512))
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, source_resize, *random]))
target_dataloader = dict(dataset=dict(pipeline=[_base_.load, target_resize, *random]))
val_dataloader = val_evaluator = test_dataloader = test_evaluator = None
default_hooks = dict(checkpoint=dict(interval=10_000))
