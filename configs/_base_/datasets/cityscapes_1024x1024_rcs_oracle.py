# As gta2cityscapes_1024x1024_rcs_supervised.py, on the labels of the target; statistics to
# $CITYSCAPES/class_pixels.json.
_base_ = 'gta2cityscapes_1024x1024_rcs_supervised.py'
train_dataloader = dict(
    dataset=dict(
        statistics=f'{_base_.cityscapes_root}/class_pixels.json',
        dataset=dict(
            type='CityscapesLabelIdsDataset',
            data_root=_base_.cityscapes_root,
            data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
            pipeline=[
                _base_.load, *_base_.labels, _base_.target_resize, *_base_.source_steps[:-1],
                _base_.jitter, _base_.pack
            ])))
