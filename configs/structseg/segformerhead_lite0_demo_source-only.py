_base_ = 'segformerhead_lite0_demo.py'
model = dict(reconstructor=None, discriminator=None)
target_dataloader = None
