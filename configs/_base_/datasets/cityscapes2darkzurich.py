# Cityscapes to the nights of Dark Zurich, as the archives are unpacked:
# $DARK_ZURICH/rgb_anon/train/night, $DARK_ZURICH/gt/val/night, ...
_base_ = 'cityscapes2acdc.py'
dark_zurich_root = '{{$DARK_ZURICH:data/dark_zurich}}'
target_dataloader = dict(
    dataset=dict(
        _base_.unlabelled,
        _delete_=True,
        data_root=dark_zurich_root,
        data_prefix=dict(img_path='rgb_anon/train/night')))
val_dataloader = dict(
    dataset=dict(
        _base_.labelled,
        _delete_=True,
        data_root=dark_zurich_root,
        data_prefix=dict(img_path='rgb_anon/val/night', seg_map_path='gt/val/night')))
test_dataloader = val_dataloader
