# The source alone at a size that two CPU cores train in minutes.
_base_ = [
    '../_base_/models/deeplabv2_effnet-lite0-d16.py', '../_base_/datasets/game2video.py',
    '../_base_/schedules/schedule_2k.py', '../_base_/default_runtime.py'
]
model = dict(decode_head=dict(num_classes=9))
default_hooks = dict(checkpoint=dict(interval=250), panel=dict(interval=250))
