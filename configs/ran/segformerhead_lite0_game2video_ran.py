# From ../structseg/segformerhead_lite0_game2video_source-only.py, at its rates and for its length.
_base_ = '../structseg/segformerhead_lite0_game2video_output-level.py'
model = dict(
    terms=dict(
        adversary=dict(
            of='features',
            discriminator=dict(in_channels=320, first_layer=False),  # stride 32
            mode='minimax',
            loss_weight=0.2)))  # [17], not tuned
load_from = 'work_dirs/segformerhead_lite0_game2video_source-only/iter_600.pth'
