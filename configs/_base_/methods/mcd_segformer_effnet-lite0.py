# The three steps beside segformer_effnet-lite0.py; rates as in configs/structseg, untuned.
_base_ = 'mcd.py'
term_optimizers = dict(
    heads=dict(
        optimizer=dict(_delete_=True, type='AdamW', lr=2.5e-3, weight_decay=0.01, fused=True)))
