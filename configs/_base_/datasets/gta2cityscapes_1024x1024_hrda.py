# GTA5 to Cityscapes as HRDA reads it: at twice the sides of DAFormer.
_base_ = 'gta2cityscapes_512x512_rcs.py'
crop = dict(type='RandomCrop', crop_size=(1024, 1024))
source_resize = dict(_base_.resize, scale=(2560, 1440))
target_resize = dict(_base_.resize, scale=(2048, 1024))
# No class fills more than three quarters of a crop.
source_crop = dict(crop, cat_max_ratio=0.75)
pack = dict(type='PackSegInputs')

train_dataloader = dict(
    dataset=dict(
        min_crop_ratio=2.,  # four times DAFormer's, as a crop has four times the pixels
        dataset=dict(
            pipeline=[
                _base_.load, *_base_.labels, source_resize, source_crop, _base_.flip, pack
            ])))
# 30, 240, 30 and 30 pixels of the whole image are not trusted.
margins = dict(
    type='MarkMargins', top=30 / 1024, bottom=240 / 1024, left=30 / 2048, right=30 / 2048)
target_dataloader = dict(
    dataset=dict(pipeline=[
        _base_.load, margins, target_resize, crop, _base_.flip,
        dict(type='PackTrusted')
    ]))
val_dataloader = dict(
    dataset=dict(pipeline=[_base_.load, target_resize, *_base_.labels, pack]))
test_dataloader = val_dataloader
