# game2video's rendered streets to Cityscapes at 256 x 256, squeezed from 2:1. The source is cropped
# to that shape before it is squeezed likewise: to rows 75 to 315 of 360, where its shares of road
# and sky, 30 and 10 percent, come nearest the target's (41 and 4 by dev's labels; 25 and 13 in the
# middle rows, 32 and 19 in all).
_base_ = 'game2video.py'
target_root = '{{$CITYSCAPES256:data/cityscapes256}}'
scale = (257, 257)

load = _base_.load
labels = _base_.labels
resize = dict(_base_.resize, scale=scale)
flip = dict(type='RandomFlip', prob=0.5)
pack = dict(type='PackSegInputs')
crop = [  # the middle of 390 rows
    dict(type='Pad', size=(480, 390)), dict(type='CenterCrop', crop_size=(480, 240))]
source_pipeline = [load, *labels, *crop, resize, flip, pack]
uncropped_pipeline = [load, *labels, resize, flip, pack]  # the oracle's, too
target_pipeline = [load, resize, flip, pack]
test_pipeline = [load, resize, *labels, pack]
target = dict(data_root=target_root)

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=source_pipeline))
target_dataloader = dict(batch_size=2, dataset=dict(**target, pipeline=target_pipeline))
# Every tenth image of leftImg8bit/train, sorted, from the first: 298 of 2,975.
dev_list = '{{ fileDirname }}/game2cityscapes_dev.txt'
val_dataloader = dict(dataset=dict(**target, ann_file=dev_list, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(**target, pipeline=test_pipeline))
