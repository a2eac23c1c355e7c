# The feature stage of CyCADA ([6]) as its code trains DRN-26, on this project's network and images.
_base_ = '../structseg/deeplabv2_r101_gta2cs_output-level.py'
model = dict(
    terms=dict(
        adversary=dict(
            of='logits',
            size='image',
            discriminator=dict(
                _delete_=True, type='PixelDiscriminator', channels=(512, 256), dropout=0.5),
            loss_weight=0.1,
            ready_above=60)),
    steps=[
        dict(name='discriminator', passes=['target', 'source'], parts=['adversary']),
        dict(name='game', passes=['target'], parts=['segmentor'], when='adversary'),
        dict(name='task', passes=['source'], parts=['segmentor'])
    ])
sgd = dict(type='SGD', lr=1e-5, momentum=0.99, weight_decay=5e-4, fused=True)
optim_wrapper = dict(
    segmentor=dict(optimizer=sgd, paramwise_cfg=None),  # one rate for all
    adversary=dict(optimizer=dict(_delete_=True, **sgd)))
param_scheduler = None  # constant rates
train_cfg = dict(max_iters=100_000)
load_from = 'work_dirs/deeplabv2_r101_gta2cs_source-only/iter_150000.pth'
