# A second head and a second D on res4: 42.4 mIoU in [14], the row AdaptSeg of Table 1.
_base_ = [
    '../_base_/setups/deeplabv2_r101_gta2cs_two-level.py', '../_base_/methods/adaptsegnet.py'
]
model = dict(terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
