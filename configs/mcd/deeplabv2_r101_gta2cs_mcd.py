# Maximum classifier discrepancy in its three steps, on the network of configs/structseg; README.md
# says what else is a choice of ours.
_base_ = [
    '../structseg/deeplabv2_r101_gta2cs_source-only.py',
    '../_base_/methods/mcd.py'
]
resize = dict(_base_.resize, scale=(1024, 512), interpolation='bilinear')  # both domains
pack = dict(type='PackSegInputs')
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, *_base_.labels, resize, pack]))
target_dataloader = dict(dataset=dict(pipeline=[_base_.load, resize, pack]))
val_dataloader = dict(dataset=dict(pipeline=[_base_.load, resize, *_base_.labels, pack]))
test_dataloader = val_dataloader

model = dict(
    auxiliary_head=_base_.model.decode_head,  # the second classifier, from other random weights
    terms=_base_.terms,
    steps=_base_.steps)
sgd = _base_.term_optimizers.heads.optimizer
optim_wrapper = dict(
    _base_.term_optimizers, segmentor=dict(_delete_=True, optimizer=sgd))  # the encoder
param_scheduler = []  # the rates are constant
train_cfg = dict(max_iters=29_750, val_interval=2975)  # ten times the target's images
