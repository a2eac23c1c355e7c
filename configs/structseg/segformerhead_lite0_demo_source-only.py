_base_ = 'segformerhead_lite0_demo.py'
model = dict(terms=dict(reconstruction=None, adversary=None))
target_dataloader = None
