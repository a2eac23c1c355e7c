# Reconstruction alone: 39.1 mIoU in the paper's Table 1.
_base_ = ['deeplabv2_r101_gta2cs_source-only.py', '../_base_/methods/structseg.py']
model = dict(type='AdvReconSegmentor', terms=dict(reconstruction=_base_.terms.reconstruction))
optim_wrapper = dict(reconstruction=_base_.term_optimizers.reconstruction)
