# MinEnt: the entropy itself is minimised, without a game; weights of ADVENT's code (minent.yml).
terms = dict(
    entropy=dict(type='MinEntropy', loss_weight=1e-3),
    auxiliary_entropy=dict(type='MinEntropy', loss_weight=2e-4, head='auxiliary_head'))
