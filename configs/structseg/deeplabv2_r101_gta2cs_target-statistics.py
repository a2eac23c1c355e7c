# Target images pass for the statistics of batch normalisation, without any loss: what the rest of
# the table is to be held against.
_base_ = 'deeplabv2_r101_gta2cs.py'
model = dict(terms=dict(reconstruction=None, adversary=None))
