# Maximum classifier discrepancy in its three steps, on the network of configs/structseg; README.md
# says what else is a choice of ours.
_base_ = '../structseg/deeplabv2_r101_gta2cs.py'
resize = dict(_base_.resize, scale=(1024, 512), interpolation='bilinear')  # both domains
pack = dict(type='PackSegInputs')
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, *_base_.labels, resize, pack]))
target_dataloader = dict(dataset=dict(pipeline=[_base_.load, resize, pack]))
val_dataloader = dict(dataset=dict(pipeline=[_base_.load, resize, *_base_.labels, pack]))
test_dataloader = val_dataloader

model = dict(
    auxiliary_head=_base_.model.decode_head,  # the second classifier, from other random weights
    terms=dict(reconstruction=None, adversary=None, discrepancy=dict(type='Discrepancy')),
    steps=[
        dict(name='A', passes=['source']),
        dict(name='B', passes=['target', 'source'], parts=['heads']),
        dict(name='C', passes=['target'], parts=['segmentor'], times=2)  # n; 4 in the released code
    ])
sgd = dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=2e-5, fused=True)
optim_wrapper = dict(
    segmentor=dict(_delete_=True, optimizer=sgd),  # E
    heads=dict(modules=['decode_head', 'auxiliary_head'], optimizer=sgd))
param_scheduler = []  # the rates are constant
train_cfg = dict(max_iters=29_750, val_interval=2975)  # ten times the target's images
