# Trained on the labels of the target, which adaptation never reads: what there is to gain.
_base_ = 'segformerhead_lite0_game2video.py'
model = dict(terms=dict(reconstruction=None, adversary=None))
target_dataloader = None
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.target,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=_base_.source_pipeline))
