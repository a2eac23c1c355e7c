# Stage 2 of CyCADA: source-only on what tools/translate.py made of the source.
_base_ = '../structseg/segformer_effnet-lite0_game2video_source-only.py'
translated_root = '{{$GAME2VIDEO_TRANSLATED:data/game2video_translated}}'
train_dataloader = dict(dataset=dict(data_root=translated_root))
