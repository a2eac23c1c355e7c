_base_ = 'deeplabv2_lite0_game2video.py'
model = dict(terms=dict(reconstruction=None, adversary=None))
target_dataloader = None
