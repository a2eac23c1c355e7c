# The full method on data that the project draws itself: `make demo` runs it.
_base_ = [
    'segformer_effnet-lite0_demo_source-only.py',
    '../_base_/methods/structseg_segformer_effnet-lite0_wide.py'
]
model = dict(
    type='AdvReconSegmentor',
    terms=dict(
        reconstruction=dict(_base_.terms.reconstruction, loss_weight=1e-5),  # section 4.2
        adversary=_base_.terms.adversary))
optim_wrapper = _base_.term_optimizers
