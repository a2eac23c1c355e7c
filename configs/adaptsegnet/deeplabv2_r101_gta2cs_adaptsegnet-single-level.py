# AdaptSegNet ([14]) at its last level: 41.4 mIoU in its paper. Network, images, rates and schedule
# are those of the paper that follows it.
_base_ = [
    '../structseg/deeplabv2_r101_gta2cs_source-only.py',
    '../_base_/methods/adaptsegnet.py'
]
model = dict(terms=dict(adversary=_base_.terms.adversary))
optim_wrapper = dict(adversary=_base_.term_optimizers.adversary)
