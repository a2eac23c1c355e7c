# The whole source image, 4:3, is squeezed.
_base_ = 'segformer_effnet-lite0_game2cityscapes_source-only.py'
train_dataloader = dict(dataset=dict(pipeline=_base_.uncropped_pipeline))
