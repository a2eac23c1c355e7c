# The feature stage of CyCADA ([6]), as its code trains DRN-26.
terms = dict(
    adversary=dict(
        type='Adversary',
        of='logits',
        size='image',
        discriminator=dict(type='PixelDiscriminator', channels=(512, 256), dropout=0.5),
        mode='non_saturating',
        loss_weight=0.1,
        ready_above=60))
steps = [
    dict(name='discriminator', passes=['source', 'target'], parts=['adversary']),
    dict(name='game', passes=['target'], parts=['segmentor'], when='adversary'),
    dict(name='task', passes=['source'], parts=['segmentor'])
]
term_optimizers = dict(
    adversary=dict(
        optimizer=dict(type='SGD', lr=1e-5, momentum=0.99, weight_decay=5e-4, fused=True)))
