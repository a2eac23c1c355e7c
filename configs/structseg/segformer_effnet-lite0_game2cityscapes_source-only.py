_base_ = '../_base_/setups/segformer_effnet-lite0_game2cityscapes.py'
# It is also tested with statistics of batch normalisation re-estimated on these, without labels.
statistics_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_base_.target,
        data_prefix=dict(img_path='leftImg8bit/train'),
        pipeline=[_base_.load, _base_.resize, dict(type='PackSegInputs')]))
