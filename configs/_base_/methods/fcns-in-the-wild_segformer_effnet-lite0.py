# FCNs in the wild beside segformer_effnet-lite0.py.
_base_ = 'fcns-in-the-wild.py'
terms = dict(
    adversary=dict(discriminator=dict(in_channels=320, channels=(256, 256)), loss_weight=0.1),
    # By dev of game2video; at the paper's 1 all is lost (configs/fcns_in_the_wild/README.md).
    class_size=dict(loss_weight=0.01))
term_optimizers = dict(adversary=dict(optimizer=dict(lr=1e-3)))
