# MinEnt, without a game.
_base_ = [
    '../_base_/setups/deeplabv2_r101_gta2cs_two-level.py', '../_base_/methods/minent.py'
]
model = dict(terms=_base_.terms)
train_cfg = dict(max_iters=120_000)  # EARLY_STOP; the schedule goes on, as in [14]
