# Cityscapes to ACDC: from day and clear sky to four conditions, each a folder of its own, at half
# the sides of its images. As the archives are unpacked: $ACDC/rgb_anon/fog/train, ...
_base_ = 'gta2cityscapes.py'
acdc_root = '{{$ACDC:data/acdc}}'
conditions = ('fog', 'night', 'rain', 'snow')
resize = dict(_base_.resize, scale=(960, 540))
pack = dict(type='PackSegInputs')
# What Dark Zurich shares: names of files, and labels that are read for validation alone.
unlabelled = dict(
    type='CityscapesLabelIdsDataset',
    img_suffix='_rgb_anon.png',
    pipeline=[_base_.load, resize, pack])
labelled = dict(
    type='CityscapesDataset',
    img_suffix='_rgb_anon.png',
    seg_map_suffix='_gt_labelTrainIds.png',
    pipeline=[_base_.load, resize, dict(type='LoadAnnotations'), pack])

train_dataloader = dict(
    dataset=dict(
        type='CityscapesLabelIdsDataset',
        data_root=_base_.cityscapes_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=[_base_.load, *_base_.labels, dict(_base_.resize, scale=(1024, 512)), pack]))
target_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                unlabelled,
                data_root=acdc_root,
                data_prefix=dict(img_path=f'rgb_anon/{condition}/train'))
            for condition in conditions
        ]))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                labelled,
                data_root=acdc_root,
                data_prefix=dict(
                    img_path=f'rgb_anon/{condition}/val', seg_map_path=f'gt/{condition}/val'))
            for condition in conditions
        ]))
test_dataloader = val_dataloader
