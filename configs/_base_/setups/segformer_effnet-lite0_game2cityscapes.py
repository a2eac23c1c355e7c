# As segformer_effnet-lite0_game2video.py, on other images.
_base_ = [
    '../models/segformer_effnet-lite0.py', '../datasets/game2cityscapes.py',
    '../schedules/schedule_600_adamw.py', '../default_runtime.py'
]
model = dict(decode_head=dict(num_classes=9))
default_hooks = dict(checkpoint=dict(interval=100), panel=dict(interval=100))
