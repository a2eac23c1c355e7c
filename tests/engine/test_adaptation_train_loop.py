import inspect
import itertools
import sys
from collections import Counter
from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner, find_latest_checkpoint
from mmengine.registry import DATA_SAMPLERS
from mmseg.registry import RUNNERS
from torch.utils.data import BatchSampler, DataLoader, Dataset

from structseg_mmseg.datasets import LabelIdsDataset, UnreadableInputError
from structseg_mmseg.engine.checkpoint import load_from_local
from structseg_mmseg.engine.runner import adaptation_train_loop
from structseg_mmseg.engine.runner.adaptation_train_loop import SeededDataset
from structseg_mmseg.errors import InputError, NonFiniteLossError
from tests.helpers.data import write_cityscapes, write_gta
from tests.helpers.models import NUM_CLASSES, model_cfg, optim_cfg
from tests.helpers.runs import (CLASSES, RANDOM, Recorder, assert_equal_checkpoints, record,
                                runner_cfg, train)


@pytest.fixture
def read(monkeypatch):
    """The indices of the samples that are read, as they are."""
    indices = []
    original = LabelIdsDataset.prepare_data
    monkeypatch.setattr(LabelIdsDataset, 'prepare_data',
                        lambda self, idx: indices.append(idx) or original(self, idx))
    return indices


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


EMA = dict(custom_hooks=[dict(type='InputCheckHook'), dict(type='EMAHook', momentum=0.25)])
OPTIONS = {
    'random transforms and dropout': RANDOM,
    'averaged weights': EMA,
    'accumulated and clipped': dict(optim_wrapper=optim_cfg(
        accumulative_counts=2, clip_grad=dict(max_norm=1.))),
    'bfloat16': dict(optim_wrapper=dict(optim_cfg(), type='CPUAmpOptimWrapper')),
    'float16': dict(optim_wrapper=dict(optim_cfg(), type='CPUAmpOptimWrapper', dtype='float16')),
    'channels last, fused': dict(
        model=model_cfg(channels_last=True), optim_wrapper=optim_cfg(True)),
    'all': dict(
        augment=RANDOM['augment'], **EMA, compile=dict(backend='aot_eager'),
        model=dict(RANDOM['model'], batch_statistics='per_domain'),
        optim_wrapper=dict(optim_cfg(True, accumulative_counts=2, clip_grad=dict(max_norm=1.)),
                           type='CPUAmpOptimWrapper')),
}


@pytest.mark.parametrize('option', OPTIONS)
def test_resume_is_exact_with(option, trees, tmp_path):
    """4 + 2 iterations give the bits of 6, whatever the number of workers."""
    options = deepcopy(OPTIONS[option])
    straight, _ = train(runner_cfg(trees, tmp_path / 'straight', 6, **deepcopy(options)))
    train(runner_cfg(trees, tmp_path / 'resumed', 4, workers=1, **deepcopy(options)))
    second, _ = train(
        runner_cfg(trees, tmp_path / 'resumed', 6, workers=2, resume=True, **options))
    assert_equal_checkpoints(second, straight)


@pytest.mark.skipif('fast_forward_on_resume' not in inspect.signature(
    IterBasedTrainLoop).parameters, reason='mmengine 0.10.7 does not have it')
def test_resume_is_exact_whether_mmengine_forwards_or_not(trees, tmp_path):
    straight, _ = train(runner_cfg(trees, tmp_path / 'straight', 4))
    train(runner_cfg(trees, tmp_path / 'resumed', 2))
    cfg = runner_cfg(trees, tmp_path / 'resumed', 4, resume=True)
    cfg['train_cfg']['fast_forward_on_resume'] = True
    assert_equal_checkpoints(train(cfg)[0], straight)


def test_a_batch_sampler_is_refused(trees, tmp_path):
    cfg = runner_cfg(trees, tmp_path, 1)
    DATA_SAMPLERS.register_module('BatchSampler', force=True, module=BatchSampler)
    cfg['target_dataloader'].update(batch_sampler=dict(type='BatchSampler', drop_last=True))
    with pytest.raises(InputError, match='target_dataloader.batch_sampler is not supported'):
        train(cfg)


def test_random_transforms_differ_from_epoch_to_epoch(trees, tmp_path):
    """Or seeding each sample would have made them constant."""
    recorder = record(runner_cfg(trees, tmp_path, 12, **RANDOM))
    for domain, images in (('source', 5), ('target', 3)):
        files, pixels = (list(itertools.chain(*batches[domain]))
                         for batches in (recorder.seen, recorder.pixels))
        assert len(set(zip(files, pixels))) > 2 * images == 2 * len(set(files))


def test_averaged_weights_are_what_the_checkpoint_offers(trees, tmp_path):
    """By the recursion, from the weights after each iteration."""
    recorder = record(runner_cfg(trees, tmp_path, 5, **EMA))
    average = recorder.weights[0]
    for weights in recorder.weights[1:]:
        average = {name: 0.75 * average[name] + 0.25 * value for name, value in weights.items()}
    checkpoint = load_from_local(str(tmp_path / 'iter_5.pth'))
    for name, value in average.items():
        torch.testing.assert_close(checkpoint['state_dict'][name], value)
        assert torch.equal(checkpoint['ema_state_dict'][f'module.{name}'],
                           recorder.weights[-1][name])


def test_a_resumed_run_keeps_its_seed(trees, tmp_path):
    straight, seen = train(runner_cfg(trees, tmp_path / 'straight', 4))
    train(runner_cfg(trees, tmp_path / 'resumed', 2))
    second, rest = train(runner_cfg(trees, tmp_path / 'resumed', 4, seed=7, resume=True))
    assert_equal_checkpoints(second, straight)
    assert rest['target'] == seen['target'][2:]


def test_load_from_is_where_a_run_starts_not_where_it_resumes(trees, tmp_path):
    """Its last checkpoint comes first, and behind it the run is what it would have been."""
    train(runner_cfg(trees, tmp_path / 'first', 3))
    options = dict(runner_type='AdaptationRunner', load_from=str(tmp_path / 'first/iter_3.pth'))
    straight, seen = train(runner_cfg(trees, tmp_path / 'straight', 4, seed=1, **options))
    train(runner_cfg(trees, tmp_path / 'resumed', 2, seed=1, **options))
    second, rest = train(
        runner_cfg(trees, tmp_path / 'resumed', 4, seed=1, resume=True, **options))
    assert_equal_checkpoints(second, straight)
    assert rest['target'] == seen['target'][2:]


def train_counting_calls(cfg):
    """Train; how often each function was called or called one in C, and what was seen."""
    counts = Counter()

    def count(frame, event, _):
        if event in ('call', 'c_call'):
            counts[frame.f_code.co_name] += 1

    runner, recorder = RUNNERS.build(Config(cfg)), Recorder()
    runner.register_hook(recorder)
    sys.setprofile(count)
    try:
        runner.train()
    finally:
        sys.setprofile(None)
    return counts, recorder


def test_resuming_far_on_does_no_more_than_resuming_soon(trees, tmp_path, read):
    """Behind 100,000 iterations it reads what it reads behind one, and only indices are drawn."""
    record(runner_cfg(trees, tmp_path, 1))
    checkpoint = load_from_local(str(tmp_path / 'iter_1.pth'))
    found = []
    for done in (1, 100_000):
        checkpoint['meta']['iter'] = done
        checkpoint['message_hub']['runtime_info']['samples']['seen'] = dict(
            source=2 * done, target=done)
        torch.save(checkpoint, tmp_path / 'done.pth')
        read.clear()
        counts, recorder = train_counting_calls(runner_cfg(
            trees, tmp_path / f'from_{done}', done + 1, load_from=str(tmp_path / 'done.pth'),
            resume=True))
        assert len(read) == 2 + 2 + 1  # InputCheckHook's samples, then one iteration
        found.append(counts)
    soon, far = found
    # What is done once for each skipped iteration has 100,000 calls more. mmengine 0.10.7 takes
    # a placeholder for each (`run` calls `__next__`).
    more = {name for name in far if far[name] > soon[name] + 50_000}
    assert more - {'run', '__next__'} == {'_infinite_indices'}
    # Five sources in each of 40,000 epochs: it goes on with the first two of an epoch's.
    assert len(set(recorder.seen['source'][0])) == 2


def test_resume_reads_no_skipped_image(trees, tmp_path, read):
    train(runner_cfg(trees, tmp_path, 4))
    read.clear()
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


def test_a_target_that_no_term_wants_is_not_opened(trees, tmp_path):
    cfg = runner_cfg(trees, tmp_path, 1)
    cfg['model'] = model_cfg(False, False)
    cfg['target_dataloader']['dataset']['data_root'] = 'nowhere'
    assert not train(cfg)[1]['target']


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


def truncate(path):
    path.write_bytes(path.read_bytes()[:60])


def test_unreadable_files_are_replaced(trees, tmp_path, capfd):
    """By samples that are a function of seed and place: 2 + 2 iterations give the bits of 4."""
    truncate(trees[0] / 'images/00003.png')
    (trees[0] / 'labels/00005.png').write_bytes(b'')
    truncate(sorted(trees[1].glob('leftImg8bit/train/*/*.png'))[1])

    def cfg(folder, iters, workers, **kwargs):
        cfg = runner_cfg(trees, tmp_path / folder, iters, workers=workers,
                         augment=RANDOM['augment'], **kwargs)
        cfg['train_cfg']['max_unreadable'] = 99
        return cfg

    straight, seen = train(cfg('straight', 4, 0))
    assert 'images/00003.png or ' in ''.join(capfd.readouterr())
    train(cfg('resumed', 2, 2))
    resumed, rest = train(cfg('resumed', 4, 2, resume=True))
    assert_equal_checkpoints(resumed, straight)
    assert rest['source'] == seen['source'][2:]
    whole = {path for batch in seen['source'] + seen['target'] for path in batch}
    assert not [path for path in whole if path.endswith(('00003.png', '00005.png'))]


def test_too_many_unreadable_files_stop_the_run(trees, tmp_path):
    """At the first one, unless the config allows more; other mistakes in files stop it at once."""
    for number in range(2, 6):
        truncate(trees[0] / f'images/{number:05d}.png')
    cfg = runner_cfg(trees, tmp_path, 4)
    with pytest.raises(UnreadableInputError, match='00.*.png cannot be read'):
        train(deepcopy(cfg))
    cfg['train_cfg']['max_unreadable'] = 2
    with pytest.raises(InputError, match='^3 samples could not be read where train_cfg.max_unread'
                                         'able is 2, the last one as .*0000[2-5].png or .*: rest'):
        train(cfg)


class Thirds(Dataset):
    """Ten samples, of which every third cannot be read."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index % 3 == 0:
            raise UnreadableInputError(f'{index} cannot be read')
        return index


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_workers_count_unreadable_samples_together(method):
    """However they are started, and as one process does."""
    keys = [(index, (0, 1, index)) for index in range(8)]
    alone = SeededDataset(Thirds(), 99)
    expected = [alone[key] for key in keys]
    number = int(alone.unreadable)
    shared = SeededDataset(Thirds(), number, num_workers=2)
    shared.unreadable.share_memory_()
    loader = DataLoader(shared, batch_size=None, sampler=keys, num_workers=2,
                        persistent_workers=True, multiprocessing_context=method)
    assert list(loader) == expected
    assert shared.unreadable.sum() == number and shared.unreadable.all()
    with pytest.raises(InputError, match='samples could not be read where train_cfg.max_un'):
        list(loader)


class Poison(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.terms['reconstruction'].loss_weight = float('nan') if batch_idx == 3 else 1e-3


@pytest.mark.parametrize('treatment', ['stop', 'skip'])
def test_a_loss_that_is_not_finite(trees, tmp_path, treatment):
    """What has been saved by then is sound, and so is what is saved after a skip."""
    cfg = runner_cfg(trees, tmp_path, 6, model=model_cfg(nonfinite_loss=treatment))
    cfg['default_hooks']['checkpoint'].update(interval=1)
    runner = Runner.from_cfg(Config(cfg))
    runner.register_hook(Poison())
    if treatment == 'stop':
        with pytest.raises(NonFiniteLossError, match='at iteration 4: reconstruction.loss_target'):
            runner.train()
        assert not (tmp_path / 'iter_4.pth').exists()
    else:
        runner.train()
    state = load_from_local(find_latest_checkpoint(str(tmp_path)))['state_dict']
    assert all(value.isfinite().all() for value in state.values())


def test_the_history_of_the_log_is_bounded(trees, tmp_path, monkeypatch):
    """A custom_cfg of the log may ask for all of it."""
    monkeypatch.setattr(adaptation_train_loop, 'HISTORY', 3)
    for window, custom, kept in ((1, None, 3), (4, None, 4), (1, [dict(
            data_src='loss', log_name='mean_loss', method_name='mean', window_size='global')], 6)):
        checkpoint, _ = train(runner_cfg(
            trees, tmp_path / f'work{kept}', 6, log_processor=dict(
                by_epoch=False, window_size=window, custom_cfg=custom)))
        scalars = checkpoint['message_hub']['log_scalars']
        assert {len(scalars[f'train/{key}'].data[0]) for key in ('loss', 'time')} == {kept}
