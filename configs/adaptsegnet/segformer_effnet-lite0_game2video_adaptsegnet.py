# At a single level. The weight is the one chosen for D of the paper, 0.1, not tuned for this D.
_base_ = [
    '../_base_/setups/segformer_effnet-lite0_game2video.py',
    '../_base_/methods/adaptsegnet.py'
]
model = dict(
    terms=dict(
        adversary=dict(
            _base_.terms.adversary,
            # A quarter as wide as in [14], as all D here.
            discriminator=dict(type='FCDiscriminator', channels=16),
            loss_weight=0.1)))
adam = dict(_base_.term_optimizers.adversary.optimizer, lr=1e-3)
optim_wrapper = dict(adversary=dict(optimizer=adam))
