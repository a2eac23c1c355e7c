import itertools
from collections import Counter

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from structseg_mmseg.datasets import LabelIdsDataset
from structseg_mmseg.engine.checkpoint import load_from_local
from structseg_mmseg.errors import InputError
from tests.conftest import NUM_CLASSES, model_cfg, optim_cfg, write_cityscapes, write_gta

CLASSES = ('road', 'sidewalk', 'building', 'wall', 'fence')
NAMES = itertools.count()


@pytest.fixture
def trees(tmp_path):
    return write_gta(tmp_path / 'gta', 5), write_cityscapes(tmp_path / 'cs', 3)


def runner_cfg(trees, work_dir, max_iters, source_batch=2, target_batch=1, workers=0, seed=0,
               parts=(True, True), **kwargs) -> dict:
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
                                pipeline=[load, *labels, pack]),
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
            data_prefix=dict(img_path='leftImg8bit/train'), pipeline=[load, pack])
    cfg.update(kwargs)
    return cfg


class Recorder(Hook):
    """Notes the files of each batch."""

    def __init__(self):
        self.seen = dict(source=[], target=[])

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for domain, batch in data_batch.items():
            self.seen[domain].append([s.img_path for s in batch['data_samples']])


def train(cfg):
    runner = Runner.from_cfg(Config(cfg))
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
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


def test_loaders_are_independent(trees, tmp_path):
    """Own sizes, batches and orders; each image once an epoch."""
    _, seen = train(runner_cfg(trees, tmp_path / 'work', 15, source_batch=2, target_batch=1))
    sources = list(itertools.chain(*seen['source']))
    targets = list(itertools.chain(*seen['target']))
    assert len(sources) == 30 and len(targets) == 15
    assert set(Counter(sources).values()) == {6} and len(set(sources)) == 5
    assert set(Counter(targets).values()) == {5} and len(set(targets)) == 3
    for epoch in range(5):
        assert len(set(targets[3 * epoch:3 * epoch + 3])) == 3


def test_domains_of_equal_size_are_not_paired(tmp_path):
    trees = write_gta(tmp_path / 'gta', 4), write_cityscapes(tmp_path / 'cs', 4)
    _, seen = train(runner_cfg(trees, tmp_path / 'work', 16, source_batch=1))
    pairs = {(a[0], b[0]) for a, b in zip(seen['source'], seen['target'])}
    assert len(pairs) > 4


@pytest.mark.parametrize('parts', [(True, True), (False, False)])
@pytest.mark.parametrize('workers', [0, 1])
def test_resume_is_exact(trees, tmp_path, parts, workers):
    """3 + 3 iterations give the bits of 6, and read nothing that they skip."""
    options = dict(parts=parts, workers=workers)
    straight, seen = train(runner_cfg(trees, tmp_path / 'straight', 6, **options))
    first, seen_first = train(runner_cfg(trees, tmp_path / 'resumed', 3, **options))
    second, seen_second = train(
        runner_cfg(trees, tmp_path / 'resumed', 6, resume=True, **options))
    assert_equal_checkpoints(second, straight)
    for domain in seen:
        assert seen_first[domain] + seen_second[domain] == seen[domain]
    with pytest.raises(AssertionError):
        assert_equal_checkpoints(first, straight)


def test_resume_reads_no_skipped_image(trees, tmp_path, monkeypatch):
    train(runner_cfg(trees, tmp_path, 4))
    read = []
    original = LabelIdsDataset.prepare_data
    monkeypatch.setattr(LabelIdsDataset, 'prepare_data',
                        lambda self, idx: read.append(idx) or original(self, idx))
    train(runner_cfg(trees, tmp_path, 5, resume=True))
    assert len(read) == 2 + (2 + 1)  # InputCheckHook's samples, then one iteration


def test_equal_seeds_give_equal_results(trees, tmp_path):
    one, _ = train(runner_cfg(trees, tmp_path / 'one', 3))
    two, _ = train(runner_cfg(trees, tmp_path / 'two', 3))
    other, _ = train(runner_cfg(trees, tmp_path / 'other', 3, seed=1))
    assert_equal_checkpoints(one, two)
    with pytest.raises(AssertionError):
        assert_equal_checkpoints(one, other)


def test_only_the_endless_sampler_will_do(trees, tmp_path):
    cfg = runner_cfg(trees, tmp_path, 1)
    cfg['target_dataloader']['sampler'] = dict(type='DefaultSampler', shuffle=True)
    with pytest.raises(Exception, match='target_dataloader.sampler must be an InfiniteSampler'):
        train(cfg)


def test_an_adapting_model_asks_for_a_target(trees, tmp_path):
    with pytest.raises(InputError, match='set target_dataloader'):
        train(runner_cfg(trees, tmp_path, 1, target_dataloader=None))


def test_class_counts_must_agree(trees, tmp_path):
    for domain in ('source', 'target'):
        cfg = runner_cfg(trees, tmp_path, 1)
        key = 'train_dataloader' if domain == 'source' else 'target_dataloader'
        cfg[key]['dataset']['metainfo'] = dict(classes=CLASSES[:4])
        with pytest.raises(InputError, match=f'{domain} data has 4 classes .* {NUM_CLASSES}'):
            train(cfg)


def test_bad_files_stop_before_the_first_iteration(trees, tmp_path):
    for path in trees[1].rglob('*.png'):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match='_leftImg8bit.png cannot be read'):
        train(runner_cfg(trees, tmp_path, 1))
