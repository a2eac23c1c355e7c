# SYNTHIA-RAND-CITYSCAPES to Cityscapes on the 16 classes that both show, as its archive is
# unpacked: $SYNTHIA/RGB and $SYNTHIA/GT/LABELS.
_base_ = 'gta2cityscapes.py'
synthia_root = '{{$SYNTHIA:data/synthia}}'
thirteen = ('road', 'sidewalk', 'building', 'traffic light', 'traffic sign', 'vegetation', 'sky',
            'person', 'rider', 'car', 'bus', 'motorcycle', 'bicycle')
classes = (*thirteen[:3], 'wall', 'fence', 'pole', *thirteen[3:])
metainfo = dict(classes=classes)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='SynthiaDataset',
        data_root=synthia_root,
        metainfo=metainfo,
        data_prefix=dict(img_path='RGB', seg_map_path='GT/LABELS'),
        pipeline=[
            _base_.load,
            dict(type='LoadSynthiaLabels'),
            dict(type='MapLabelIds'),
            dict(_base_.resize, scale=(1280, 760)),
            dict(type='PackSegInputs')
        ]))
target_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
# Papers of this benchmark print both means of one model.
val_evaluator = dict(means=dict(mIoU13=thirteen))
test_evaluator = val_evaluator
