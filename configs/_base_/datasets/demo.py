# Two street worlds that tools/dataset_converters/draw_demo.py draws.
data_root = '{{$DEMO:data/demo}}'
classes = ('road', 'sidewalk', 'building', 'pole', 'traffic sign', 'vegetation', 'sky', 'car')

load = dict(type='LoadImageFromFile', imdecode_backend='pillow')
labels = [dict(type='LoadAnnotations'), dict(type='MapLabelIds')]
flip = dict(type='RandomFlip', prob=0.5)
source_pipeline = [load, *labels, flip, dict(type='PackSegInputs')]
target_pipeline = [load, flip, dict(type='PackSegInputs')]
test_pipeline = [load, *labels, dict(type='PackSegInputs')]
sampler = dict(type='InfiniteSampler', shuffle=True)
target = dict(
    type='CityscapesLabelIdsDataset',
    data_root=f'{data_root}/video',
    metainfo=dict(classes=classes))

train_dataloader = dict(  # the source
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=sampler,
    dataset=dict(
        type='GTADataset',
        data_root=f'{data_root}/game',
        metainfo=dict(classes=classes),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=source_pipeline))
target_dataloader = dict(  # no label is ever read
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=sampler,
    dataset=dict(
        **target,
        data_prefix=dict(img_path='leftImg8bit/train'),
        pipeline=target_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **target,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='ClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
