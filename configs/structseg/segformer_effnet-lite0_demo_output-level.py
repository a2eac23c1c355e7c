# The adversary alone, on data that the project draws itself.
_base_ = [
    'segformer_effnet-lite0_demo_source-only.py',
    '../_base_/methods/structseg_segformer_effnet-lite0_wide.py'
]
model = dict(type='AdvReconSegmentor', terms=dict(adversary=_base_.terms.adversary))
optim_wrapper = dict(adversary=_base_.term_optimizers.adversary)
