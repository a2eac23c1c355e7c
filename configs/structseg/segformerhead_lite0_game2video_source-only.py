_base_ = 'segformerhead_lite0_game2video.py'
model = dict(terms=dict(reconstruction=None, adversary=None))
target_dataloader = None
# It is also tested with statistics of batch normalisation re-estimated on these, without labels.
statistics_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_base_.target,
        data_prefix=dict(img_path='leftImg8bit/train'),
        pipeline=[_base_.load, _base_.resize, dict(type='PackSegInputs')]))
