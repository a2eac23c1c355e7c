# The feature stage of CyCADA ([6]) as its code trains DRN-26, on this project's network and images.
_base_ = [
    '../structseg/deeplabv2_r101_gta2cs_source-only.py',
    '../_base_/methods/cycada.py'
]
model = dict(terms=_base_.terms, steps=_base_.steps)
sgd = _base_.term_optimizers.adversary.optimizer
optim_wrapper = dict(
    _base_.term_optimizers,
    segmentor=dict(_delete_=True, optimizer=sgd))  # one rate for all
param_scheduler = None  # constant rates
train_cfg = dict(max_iters=100_000)
load_from = 'work_dirs/deeplabv2_r101_gta2cs_source-only/iter_150000.pth'
