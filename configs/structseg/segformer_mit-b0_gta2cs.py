# The paper's terms on another network; neither weights nor rates are tuned for it.
_base_ = [
    '../_base_/models/structseg_segformer_mit-b0.py', '../_base_/datasets/gta2cityscapes.py',
    '../_base_/schedules/adaptation_adamw_160k.py', '../_base_/default_runtime.py'
]
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
