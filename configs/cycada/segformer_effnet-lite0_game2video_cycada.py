# Stage 3 of CyCADA: the feature stage on the translated source, from stage 2.
_base_ = 'segformer_effnet-lite0_game2video_cycada-feature.py'
translated_root = '{{$GAME2VIDEO_TRANSLATED:data/game2video_translated}}'
train_dataloader = dict(dataset=dict(data_root=translated_root))
load_from = 'work_dirs/segformer_effnet-lite0_game2video_cycada-source/iter_600.pth'
