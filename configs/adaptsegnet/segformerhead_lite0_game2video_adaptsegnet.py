# At a single level. The weight is the one chosen for D of the paper, 0.1, not tuned for this D.
_base_ = '../structseg/segformerhead_lite0_game2video.py'
model = dict(
    terms=dict(
        reconstruction=None,
        adversary=dict(
            # A quarter as wide as in [14], as all D here.
            discriminator=dict(_delete_=True, type='FCDiscriminator', channels=16),
            size='image')))
