# At a single level beside segformer_effnet-lite0.py; a leaf sets the weight.
_base_ = 'adaptsegnet.py'
terms = dict(
    _delete_=True,
    adversary=dict(
        _base_.terms.adversary,
        # A quarter as wide as in [14], as all D here.
        discriminator=dict(type='FCDiscriminator', channels=16)))
term_optimizers = dict(
    _delete_=True,
    adversary=dict(optimizer=dict(_base_.term_optimizers.adversary.optimizer, lr=1e-3)))
