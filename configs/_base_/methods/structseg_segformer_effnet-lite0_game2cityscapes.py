# The paper's terms on game2cityscapes, where the domains' shares of classes differ.
_base_ = 'structseg_segformer_effnet-lite0.py'
# On dev (600 iterations, seed 0) source-only has 36.6 and 47.9 with re-estimated statistics; the
# game has 47.5 at this weight and 32.0 at game2video's, 0.1: docs/when_it_helps.md.
terms = dict(adversary=dict(loss_weight=0.01))
