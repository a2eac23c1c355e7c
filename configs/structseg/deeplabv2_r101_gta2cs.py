# The full model of the paper, GTA5 to Cityscapes: 44.8 mIoU in its Table 1.
_base_ = ['deeplabv2_r101_gta2cs_source-only.py', '../_base_/methods/structseg.py']
model = dict(type='AdvReconSegmentor', terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
