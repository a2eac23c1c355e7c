# SYNTHIA to Cityscapes as gta2cityscapes_1024x1024_rcs.py, which VFM-UDA does not have; statistics
# to $SYNTHIA/class_pixels.json.
_base_ = ['synthia2cityscapes.py', 'crops_1024x1024.py']
source_resize = dict(_base_.short_side, scale=(4096, 1520))  # HRDA's
target_resize = dict(_base_.short_side, scale=(4096, 1024))
test_resize = dict(_base_.resize, scale=(2048, 1024))  # as the images are
load_labels = [dict(type='LoadSynthiaLabels'), dict(type='MapLabelIds')]

train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _delete_=True,
        **_base_.sampling,
        statistics=f'{_base_.synthia_root}/class_pixels.json',
        dataset=dict(
            _base_.train_dataloader.dataset,
            pipeline=[_base_.load, *load_labels, source_resize, *_base_.source_steps])))
target_dataloader = dict(
    batch_size=2,
    dataset=dict(pipeline=[_base_.load, _base_.margins, target_resize, *_base_.target_steps]))
val_dataloader = dict(
    dataset=dict(pipeline=[_base_.load, test_resize, *_base_.labels, dict(type='PackSegInputs')]))
test_dataloader = val_dataloader
