# A small real benchmark: streets rendered with a game's art (GTA5's layout) to CamVid's day videos
# (Cityscapes' layout), nine classes, images of 480 x 360.
data_root = '{{$GAME2VIDEO:data/game2video}}'
classes = ('road', 'sidewalk', 'building', 'fence', 'pole', 'traffic sign', 'vegetation', 'sky',
           'car')
scale = (321, 241)  # a multiple of the stride plus one: features lie over the image's borders

resize = dict(
    type='Resize', scale=scale, keep_ratio=False, interpolation='bicubic', backend='pillow')
load = dict(type='LoadImageFromFile', imdecode_backend='pillow')
labels = [dict(type='LoadAnnotations'), dict(type='MapLabelIds')]
source_pipeline = [load, *labels, resize, dict(type='PackSegInputs')]
target_pipeline = [load, resize, dict(type='PackSegInputs')]
# Test labels keep their size: logits are resized to it.
test_pipeline = [load, resize, *labels, dict(type='PackSegInputs')]
sampler = dict(type='InfiniteSampler', shuffle=True)
target = dict(
    type='CityscapesLabelIdsDataset',
    data_root=f'{data_root}/camvid',
    img_suffix='_leftImg8bit.jpg',
    metainfo=dict(classes=classes))

train_dataloader = dict(  # the source
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=sampler,
    dataset=dict(
        type='GTADataset',
        data_root=f'{data_root}/street',
        img_suffix='.jpg',
        metainfo=dict(classes=classes),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=source_pipeline))
target_dataloader = dict(  # no label is ever read
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=sampler,
    dataset=dict(
        **target,
        data_prefix=dict(img_path='leftImg8bit/train'),
        pipeline=target_pipeline))
evaluation = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False))
# Choices are made on the labels of the training images (dev), which only this evaluation reads; the
# sequence that no training sees is for the final test.
val_dataloader = dict(
    **evaluation,
    dataset=dict(
        **target,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=test_pipeline))
test_dataloader = dict(
    **evaluation,
    dataset=dict(
        **target,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline))
val_evaluator = dict(type='ClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
