# MinEnt: the entropy itself is minimised, without a game; weights of ADVENT's code (minent.yml).
_base_ = 'deeplabv2_r101_gta2cs_advent.py'
model = dict(
    terms=dict(
        adversary=None,
        auxiliary_adversary=None,
        entropy=dict(type='MinEntropy', loss_weight=1e-3),
        auxiliary_entropy=dict(type='MinEntropy', loss_weight=2e-4, head='auxiliary_head')))
