# As published: the code's numbers (vikolss/DACS: configs/, trainUDA.py), which are the paper's.
_base_ = [
    '../_base_/models/deeplabv2_r101-d8.py',
    '../_base_/datasets/gta2cityscapes_512x512.py',  # images of [14], crops of 512, batches of 2
    '../_base_/schedules/schedule_150k.py',  # SGD 2.5e-4, 0.9 and 5e-4, head x 10, (1 - i/250k)^0.9
    '../_base_/default_runtime.py',
    '../_base_/methods/dacs.py'
]
model = dict(
    decode_head=dict(dilations=(6, 12)),  # its classifier returns before the other two have acted
    terms=_base_.dacs)
train_cfg = dict(max_iters=250_000)
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
