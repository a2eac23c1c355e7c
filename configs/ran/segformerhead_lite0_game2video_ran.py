# From ../structseg/segformerhead_lite0_game2video_source-only.py, at its rates and for its length.
_base_ = '../structseg/segformerhead_lite0_game2video_output-level.py'
model = dict(
    terms=dict(
        adversary=dict(
            of='features',
            discriminator=dict(in_channels=320, first_layer=False),  # stride 32
            mode='minimax',
            # At 0.2, as in [17], its gradient at E is ten times the segmentation's here, and dev
            # falls from 49.8 to 41.5; at this, where it is a tenth, it rises to 52.2.
            loss_weight=0.002)))
load_from = 'work_dirs/segformerhead_lite0_game2video_source-only/iter_600.pth'
