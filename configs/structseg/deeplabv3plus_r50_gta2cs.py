# The paper's terms on another network; neither weights nor rates are tuned for it.
_base_ = [
    '../_base_/models/deeplabv3plus_r50-d8.py', '../_base_/datasets/gta2cityscapes.py',
    '../_base_/schedules/schedule_150k.py', '../_base_/methods/structseg_deeplabv3plus_r50-d8.py',
    '../_base_/default_runtime.py'
]
model = dict(type='AdvReconSegmentor', terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
# The head's pooled branch normalises one value a channel and image: it takes two images.
train_dataloader = dict(batch_size=2)
target_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(interval=5000), panel=dict(interval=5000))
