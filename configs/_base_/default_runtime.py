custom_imports = dict(imports=['structseg_mmseg'])
default_scope = 'mmseg'
runner_type = 'AdaptationRunner'
randomness = dict(seed=0)  # equal seeds, equal results: --cfg-options randomness.seed=1 for another
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # A rank that waits for another longer than this (s) ends. Without a GPU the tools use gloo.
    dist_cfg=dict(backend='nccl', timeout=1800))
model_wrapper_cfg = dict(type='AdaptationDistributedDataParallel')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=1000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    summary=dict(type='SummaryHook'),
    panel=dict(type='PanelHook', interval=1000),
    watch=dict(type='WatchHook'),  # warns when a training goes wrong
    visualization=dict(type='SegVisualizationHook', interval=1))  # draws with --show-dir only
custom_hooks = [
    dict(type='InputCheckHook'),
    dict(type='SyncBuffersHook')  # ranks validate with the same statistics
]
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False, num_digits=6)  # norms of gradients are small
log_level = 'INFO'
load_from = None
resume = False
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
