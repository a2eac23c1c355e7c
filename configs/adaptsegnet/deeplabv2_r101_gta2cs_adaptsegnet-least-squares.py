# The least-squares game of [14]'s appendix: 44.1 mIoU there.
_base_ = 'deeplabv2_r101_gta2cs_adaptsegnet-single-level.py'
model = dict(
    terms=dict(adversary=dict(mode='least_squares', loss_weight=0.01)))  # the code's README
