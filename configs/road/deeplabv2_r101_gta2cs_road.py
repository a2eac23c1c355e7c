# ROAD on the network and schedule of configs/structseg.
_base_ = [
    '../structseg/deeplabv2_r101_gta2cs_source-only.py',
    '../_base_/methods/road.py'
]
model = dict(terms=_base_.terms)
optim_wrapper = _base_.term_optimizers
