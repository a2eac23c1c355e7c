# Section 4.2, and [14] (AdaptSegNet), whose setting it follows.
optim_wrapper = dict(
    constructor='AdaptationOptimWrapperConstructor',
    type='OptimWrapper',
    segmentor=dict(  # encoder and heads
        optimizer=dict(
            type='SGD',
            lr=2.5e-4,  # section 4.2
            momentum=0.9,  # section 4.2
            weight_decay=5e-4,  # [14]
            fused=True),  # one pass over the parameters
        paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10)))))  # [14]
# From a list each optimizer gets its own schedule; a dict would give each optimizer another one.
# mmengine divides by end - begin - 1, so this is (1 - i / 250000) ** 0.9, power from section 4.2,
# length from [14].
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=250_001, by_epoch=False)
]
train_cfg = dict(
    type='AdaptationTrainLoop',
    max_iters=150_000,  # [14] stops here, its schedule goes on
    val_interval=10_000)
