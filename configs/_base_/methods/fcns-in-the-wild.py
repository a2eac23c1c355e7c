# FCNs in the wild. First, once: python tools/dataset_converters/count_class_sizes.py CONFIG FILE; a
# leaf names the FILE.
terms = dict(
    adversary=dict(  # L_da
        type='Adversary',
        of='features',
        mode='confusion',
        discriminator=dict(type='PixelDiscriminator', in_channels=2048, dropout=0.5),
        loss_weight=1e-3),
    class_size=dict(type='ClassSize'))  # L_mi
term_optimizers = dict(
    adversary=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), fused=True)))
