# AdvEnt: AdaptSegNet with maps of entropy in the place of the softmax; its weights, rates and
# optimizers are the same in ADVENT's code (domain_adaptation/config.py).
_base_ = 'adaptsegnet.py'
terms = dict(adversary=dict(of='entropy'), auxiliary_adversary=dict(of='entropy'))
