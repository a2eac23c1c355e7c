"""Short trainings, what they recorded, and processes that train."""
import functools
import itertools
import multiprocessing
import os
import signal
from contextlib import contextmanager
from typing import Iterator
from zlib import crc32

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmseg.registry import METRICS, RUNNERS

from structseg_mmseg.engine.checkpoint import load_from_local
from tests.helpers.models import model_cfg, optim_cfg


@contextmanager
def process_group(rank: int, ranks: int, folder: str) -> Iterator[None]:
    """One of several ranks that meet in a folder, over gloo, each on a thread."""
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank,
                            world_size=ranks)
    torch.set_num_threads(1)
    init_default_scope('mmseg')
    yield
    dist.destroy_process_group()


CLASSES = ('road', 'sidewalk', 'building', 'wall', 'fence')
NAMES = itertools.count()


def runner_cfg(trees, work_dir, max_iters, source_batch=2, target_batch=1, workers=0, seed=0,
               parts=(True, True), augment=(), **kwargs) -> dict:
    load = dict(type='LoadImageFromFile')
    labels = [dict(type='LoadAnnotations'), dict(type='MapLabelIds')]
    pack = dict(type='PackSegInputs')

    def loader(batch_size, **dataset):
        return dict(batch_size=batch_size, num_workers=workers,
                    sampler=dict(type='InfiniteSampler', shuffle=True),
                    dataset=dict(metainfo=dict(classes=CLASSES), **dataset))

    cfg = dict(
        model=model_cfg(*parts),
        work_dir=str(work_dir),
        experiment_name=f'loop{next(NAMES)}',
        train_dataloader=loader(source_batch, type='GTADataset', data_root=str(trees[0]),
                                data_prefix=dict(img_path='images', seg_map_path='labels'),
                                pipeline=[load, *labels, *augment, pack]),
        train_cfg=dict(type='AdaptationTrainLoop', max_iters=max_iters, val_interval=1000),
        optim_wrapper=optim_cfg(),
        param_scheduler=[dict(type='PolyLR', power=0.9, eta_min=0, end=21, by_epoch=False)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000),
                           logger=dict(type='LoggerHook', log_metric_by_epoch=False)),
        custom_hooks=[dict(type='InputCheckHook')],
        log_processor=dict(by_epoch=False),
        log_level='WARNING',
        randomness=dict(seed=seed),
        default_scope='mmseg')
    if any(parts):
        cfg['target_dataloader'] = loader(
            target_batch, type='CityscapesLabelIdsDataset', data_root=str(trees[1]),
            data_prefix=dict(img_path='leftImg8bit/train'), pipeline=[load, *augment, pack])
    cfg.update(kwargs)
    return cfg


RANDOM = dict(
    augment=[dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')],
    model=model_cfg(decode_head=dict(model_cfg()['decode_head'], dropout_ratio=0.5)))


class Recorder(Hook):
    """Notes the files and pixels of each batch, and the weights after each iteration."""

    def __init__(self):
        self.seen = dict(source=[], target=[])
        self.pixels = dict(source=[], target=[])
        self.weights = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for domain in self.seen.keys() & data_batch.keys():
            batch = data_batch[domain]
            self.seen[domain].append([s.img_path for s in batch['data_samples']])
            self.pixels[domain].append([crc32(i.numpy().tobytes()) for i in batch['inputs']])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, 'module', runner.model)
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})


def record(cfg):
    runner = RUNNERS.build(Config(cfg))
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return recorder


def train(cfg):
    recorder = record(cfg)
    checkpoint = load_from_local(f'{cfg["work_dir"]}/iter_{cfg["train_cfg"]["max_iters"]}.pth')
    return checkpoint, recorder.seen


def assert_equal(a, b, path=''):
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f'{path}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for index, (x, y) in enumerate(zip(a, b)):
            assert_equal(x, y, f'{path}[{index}]')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def assert_equal_checkpoints(a, b):
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(a[key], b[key], key)


# Its server has imported all this and nothing more: each process starts at once, and afresh.
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload([__name__, 'tests.helpers.quick'])
spawn = functools.partial(mp.start_processes, start_method='forkserver')


@METRICS.register_module()
class Progress(BaseMetric):
    """A score that is better each time."""

    def process(self, data_batch, data_samples):
        self.results.append(None)

    def compute_metrics(self, results):
        return dict(progress=MessageHub.get_current_instance().get_info('iter'))


def checkpoint_cfg(trees, work_dir, max_iters, keep=1, best=None, **kwargs):
    """A checkpoint after each iteration and, if the best is to be kept, a validation, too."""
    options = runner_cfg(trees, work_dir, max_iters, **kwargs)
    options['default_hooks']['checkpoint'] = dict(
        type='AtomicCheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=keep,
        save_best=best, rule='greater')
    if best is not None:
        options['train_cfg']['val_interval'] = 1
        options.update(val_dataloader=dict(options['train_dataloader'], sampler=dict(
            type='DefaultSampler', shuffle=False)), val_cfg=dict(), val_evaluator=dict(
                type='Progress'))
    options['runner_type'] = 'AdaptationRunner'
    return options


def run(options, fatal=None, calls=1):
    """Train; die in the n-th call of a function, if one is named."""
    init_default_scope('mmseg')
    if fatal is not None:
        owner, name = dict(
            write=(LocalBackend, 'put'), fsync=(os, 'fsync'), replace=(os, 'replace'),
            remove=(os, 'remove'))[fatal]
        original, left = getattr(owner, name), [calls]

        @functools.wraps(original)
        def die(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                if fatal == 'write':  # in the middle of it
                    backend, content, path = args
                    original(backend, content[:len(content) // 2], path)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, name, die)
    RUNNERS.build(Config(options)).train()
