# SYNTHIA to Cityscapes as DAFormer reads it; statistics as in gta2cityscapes_512x512_rcs.py, to
# $SYNTHIA/class_pixels.json.
_base_ = 'synthia2cityscapes_512x512.py'
flip = dict(type='RandomFlip', prob=0.5)
# No class fills more than three quarters of a crop.
source_crop = dict(_base_.crop, cat_max_ratio=0.75)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RareClassSampling',
        statistics=f'{_base_.synthia_root}/class_pixels.json',
        temperature=0.01,
        min_pixels=3000,
        min_crop_ratio=0.5,
        dataset=dict(
            _base_.train_dataloader.dataset,
            pipeline=[*_base_.source_steps, source_crop, flip, _base_.pack])))
target_dataloader = dict(
    dataset=dict(pipeline=[*_base_.target_steps, _base_.crop, flip, _base_.pack]))
