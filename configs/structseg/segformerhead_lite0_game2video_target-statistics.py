# Target images pass for the statistics of batch normalisation, without any loss.
_base_ = 'segformerhead_lite0_game2video.py'
model = dict(terms=dict(reconstruction=None, adversary=None))
