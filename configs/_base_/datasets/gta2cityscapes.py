# GTA5 to Cityscapes (section 4.1) from the archives as they are unpacked; sizes, resampling and
# batch size of [14].
gta_root = '{{$GTA5:data/gta5}}'
cityscapes_root = '{{$CITYSCAPES:data/cityscapes}}'
source_scale = (1280, 720)
target_scale = (1024, 512)

resize = dict(type='Resize', keep_ratio=False, interpolation='bicubic', backend='pillow')
load = dict(type='LoadImageFromFile', imdecode_backend='pillow')
labels = [dict(type='LoadAnnotations'), dict(type='MapLabelIds')]
source_pipeline = [load, *labels, dict(**resize, scale=source_scale), dict(type='PackSegInputs')]
target_pipeline = [load, dict(**resize, scale=target_scale), dict(type='PackSegInputs')]
# Test labels keep their size: logits are resized to it.
test_pipeline = [load, dict(**resize, scale=target_scale), *labels, dict(type='PackSegInputs')]

train_dataloader = dict(  # the source
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='GTADataset',
        data_root=gta_root,
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=source_pipeline))
target_dataloader = dict(  # no label is ever read
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CityscapesLabelIdsDataset',
        data_root=cityscapes_root,
        data_prefix=dict(img_path='leftImg8bit/train'),
        pipeline=target_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesLabelIdsDataset',
        data_root=cityscapes_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='ClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
