_base_ = 'deeplabv2_r101_gta2cs.py'
model = dict(terms=dict(reconstruction=None, adversary=None))
target_dataloader = None
