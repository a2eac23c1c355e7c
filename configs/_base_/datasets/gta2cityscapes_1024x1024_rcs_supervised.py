# As VFM-UDA's source-only training reads GTA5: tue-mps/vfm-uda,
# training/uda_vit/supervised_vit_generic.py.
_base_ = 'gta2cityscapes_1024x1024_rcs.py'
# The shifts of its weak jitter, each with probability a half.
jitter = dict(type='PhotoMetricDistortion')
*steps, pack = _base_.train_dataloader.dataset.dataset.pipeline
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=[*steps, jitter, pack])))
