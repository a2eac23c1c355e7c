# Its form with a gradient reversal layer: one step of all parts.
_base_ = 'deeplabv2_r101_gta2cs_mcd.py'
model = dict(steps=None)
