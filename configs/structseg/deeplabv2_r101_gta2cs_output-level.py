# The game alone: 41.7 mIoU in the paper's Table 1.
_base_ = ['deeplabv2_r101_gta2cs_source-only.py', '../_base_/methods/structseg.py']
model = dict(type='AdvReconSegmentor', terms=dict(adversary=_base_.terms.adversary))
optim_wrapper = dict(adversary=_base_.term_optimizers.adversary)
