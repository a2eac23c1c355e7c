# At a single level.
_base_ = '../adaptsegnet/segformer_effnet-lite0_game2cityscapes_adaptsegnet.py'
model = dict(terms=dict(adversary=dict(of='entropy')))
