# The full method at a size and with a head that leave adaptation something to gain.
_base_ = [
    '../_base_/models/structseg_segformerhead_lite0-d32.py',
    '../_base_/datasets/game2video_177x289.py', '../_base_/schedules/adaptation_adamw_600.py',
    '../_base_/default_runtime.py'
]
model = dict(decode_head=dict(num_classes=9))
default_hooks = dict(checkpoint=dict(interval=100))
