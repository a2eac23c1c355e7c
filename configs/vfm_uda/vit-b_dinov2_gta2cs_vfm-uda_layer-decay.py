# VFM-UDA++'s rates (tue-mps/vfm-uda-plusplus): the last block has the encoder's tenth, each below
# 0.9 of the one above, and tokens, positions and the norm 0.9 of the first block's.
_base_ = 'vit-b_dinov2_gta2cs_vfm-uda.py'
optim_wrapper = dict(
    segmentor=dict(
        paramwise_cfg=dict(
            custom_keys={
                'backbone': dict(lr_mult=0.1 * 0.9**12),
                **{f'backbone.model.blocks.{block}.': dict(lr_mult=0.1 * 0.9**(11 - block))
                   for block in range(12)}
            })))
