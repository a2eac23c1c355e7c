# The source alone, on data that the project draws itself.
_base_ = [
    '../_base_/models/segformer_effnet-lite0.py', '../_base_/datasets/demo.py',
    '../_base_/schedules/schedule_400_adamw.py', '../_base_/default_runtime.py'
]
model = dict(decode_head=dict(num_classes=8))
default_hooks = dict(checkpoint=dict(interval=100), panel=dict(interval=100))
