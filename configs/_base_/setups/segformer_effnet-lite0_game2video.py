# Network, data and schedule at a size and with a head that leave adaptation something to gain, for
# a CPU core. How these choices were made: docs/lab_book.md.
_base_ = [
    '../models/segformer_effnet-lite0.py', '../datasets/game2video_361x225.py',
    '../schedules/schedule_600_adamw.py', '../default_runtime.py'
]
model = dict(decode_head=dict(num_classes=9))
default_hooks = dict(checkpoint=dict(interval=100), panel=dict(interval=100))
