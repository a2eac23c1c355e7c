# As MIC on HRDA from clear to adverse weather (its experiments.py, 80), with the blocks for crops
# of 512; on DAFormer it is not published.
_base_ = [
    '../_base_/models/daformer_mit-b5.py',
    '../_base_/datasets/cityscapes2darkzurich_512x512_rcs.py',
    '../_base_/schedules/schedule_40k_adamw.py', '../_base_/default_runtime.py',
    '../_base_/methods/mic.py'
]
model = dict(
    terms=dict(
        _base_.mic,
        self_training=dict(_base_.mic.self_training, margins=(0, 0)),  # no hood, no borders
        masked=dict(_base_.mic.masked, images='both', jitter=None)))
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
