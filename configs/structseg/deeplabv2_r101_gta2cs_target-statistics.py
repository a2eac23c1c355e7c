_base_ = ['deeplabv2_r101_gta2cs_source-only.py', '../_base_/methods/target-statistics.py']
model = dict(terms=_base_.terms)
