# Maximum classifier discrepancy in its three steps; without steps it is the form with a gradient
# reversal layer. The second classifier is an auxiliary head with the first one's config.
terms = dict(discrepancy=dict(type='Discrepancy'))
steps = [
    dict(name='A', passes=['source']),
    dict(name='B', passes=['source', 'target'], parts=['heads']),
    dict(name='C', passes=['target'], parts=['segmentor'], times=2)  # n; 4 in the released code
]
term_optimizers = dict(
    heads=dict(
        modules=['decode_head', 'auxiliary_head'],
        optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=2e-5, fused=True)))
