# VFM-UDA's source-only training: the encoder's rate is a hundredth of the head's, where it is a
# tenth in adaptation.
_base_ = 'schedule_40k_vfm-uda.py'
optim_wrapper = dict(
    segmentor=dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.01)))))
