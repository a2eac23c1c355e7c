# The paper's terms beside segformer_effnet-lite0.py.
_base_ = 'structseg_deeplabv2_effnet-lite0.py'
terms = dict(
    # G starts from the features at stride 16: the last ones, at 32, lie too far from pixels.
    reconstruction=dict(
        decoder=dict(in_channels=112, in_index=2),
        # At the paper's 1e-5 its gradient at the encoder is a quarter of the segmentation's on
        # game2video, here a twentieth.
        loss_weight=1e-6),
    # At the paper's 1e-3 the game's gradient at the encoder is a thousandth of the segmentation's
    # on game2video, here a twentieth.
    adversary=dict(loss_weight=0.1))
