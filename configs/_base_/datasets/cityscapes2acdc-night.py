# Of ACDC, the nights.
_base_ = 'cityscapes2acdc.py'
target_dataloader = dict(
    dataset=dict(
        _base_.unlabelled,
        _delete_=True,
        data_root=_base_.acdc_root,
        data_prefix=dict(img_path='rgb_anon/night/train')))
val_dataloader = dict(
    dataset=dict(
        _base_.labelled,
        _delete_=True,
        data_root=_base_.acdc_root,
        data_prefix=dict(img_path='rgb_anon/night/val', seg_map_path='gt/night/val')))
test_dataloader = val_dataloader
