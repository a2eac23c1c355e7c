# Cityscapes to the nights of Dark Zurich, cropped and sampled as for ACDC; folders as in
# cityscapes2darkzurich.py.
_base_ = 'cityscapes2acdc_512x512_rcs.py'
dark_zurich_root = '{{$DARK_ZURICH:data/dark_zurich}}'
target_dataloader = dict(
    dataset=dict(
        _base_.unlabelled,
        _delete_=True,
        data_root=dark_zurich_root,
        data_prefix=dict(img_path='rgb_anon/train/night'),
        pipeline=_base_.target_pipeline))
val_dataloader = dict(
    dataset=dict(
        _base_.labelled,
        _delete_=True,
        data_root=dark_zurich_root,
        data_prefix=dict(img_path='rgb_anon/val/night', seg_map_path='gt/val/night')))
test_dataloader = val_dataloader
