# AdaptSegNet ([14]) at its last level: 41.4 mIoU in its paper. Network, images, rates and schedule
# are those of the paper that follows it.
_base_ = '../structseg/deeplabv2_r101_gta2cs.py'
model = dict(
    terms=dict(
        reconstruction=None,
        adversary=dict(
            discriminator=dict(_delete_=True, type='FCDiscriminator', channels=64),
            size='image',  # as in its code
            loss_weight=1e-3)))
