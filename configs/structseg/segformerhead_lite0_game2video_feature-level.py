_base_ = 'segformerhead_lite0_game2video.py'
model = dict(terms=dict(adversary=None))
