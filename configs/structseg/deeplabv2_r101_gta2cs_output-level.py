_base_ = 'deeplabv2_r101_gta2cs.py'
model = dict(terms=dict(reconstruction=None))
