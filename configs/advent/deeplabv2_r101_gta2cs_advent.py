# AdvEnt: 43.8 mIoU. AdaptSegNet of two levels with maps of entropy in the place of the softmax; its
# weights, rates and optimizers are the same in ADVENT's code (domain_adaptation/config.py).
_base_ = '../adaptsegnet/deeplabv2_r101_gta2cs_multi-level.py'
model = dict(
    terms=dict(adversary=dict(of='entropy'), auxiliary_adversary=dict(of='entropy')))
train_cfg = dict(max_iters=120_000)  # EARLY_STOP; the schedule goes on, as in [14]
