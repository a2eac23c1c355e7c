# Trained on the labels of the target, which adaptation never reads: what there is to gain.
_base_ = '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.target,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=_base_.uncropped_pipeline))
