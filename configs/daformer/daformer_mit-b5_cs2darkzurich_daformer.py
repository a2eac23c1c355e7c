# As published (DAFormer's experiments.py, 8), its margins included, although a crop of 512 does not
# show all of 540 rows.
_base_ = [
    '../_base_/models/daformer_mit-b5.py',
    '../_base_/datasets/cityscapes2darkzurich_512x512_rcs.py',
    '../_base_/schedules/schedule_40k_adamw.py', '../_base_/default_runtime.py',
    '../_base_/methods/daformer.py'
]
model = dict(terms=_base_.daformer)
default_hooks = dict(checkpoint=dict(interval=4000), panel=dict(interval=4000))
