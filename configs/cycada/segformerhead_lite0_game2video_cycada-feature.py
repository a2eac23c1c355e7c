# Stage 3 alone: from ../structseg/segformerhead_lite0_game2video_source-only.py, at its rates and
# for its length. On translated images: segformerhead_lite0_game2video_cycada.py.
_base_ = '../structseg/segformerhead_lite0_game2video_output-level.py'
model = dict(
    terms=dict(
        adversary=dict(
            of='logits',
            size='image',
            discriminator=dict(
                # A quarter as wide as in [6], as all D here.
                _delete_=True, type='PixelDiscriminator', channels=(128, 64), dropout=0.5),
            loss_weight=0.1,  # [6], not tuned
            ready_above=60)),
    steps=[
        dict(name='discriminator', passes=['target', 'source'], parts=['adversary']),
        dict(name='game', passes=['target'], parts=['segmentor'], when='adversary'),
        dict(name='task', passes=['source'], parts=['segmentor'])
    ])
load_from = 'work_dirs/segformerhead_lite0_game2video_source-only/iter_600.pth'
