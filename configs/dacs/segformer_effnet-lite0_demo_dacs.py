# On data that the project draws itself.
_base_ = [
    '../structseg/segformer_effnet-lite0_demo_source-only.py',
    '../_base_/methods/dacs_segformer_effnet-lite0.py'
]
model = dict(terms=_base_.dacs)
