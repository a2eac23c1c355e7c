"""Runs that are killed: real processes, SIGKILL, and what the next run makes of it.

``KILLS=50`` makes them more.
"""
import functools
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import time

import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.runner import find_latest_checkpoint
from mmseg.registry import METRICS, MODELS, RUNNERS

from structseg_mmseg.engine.checkpoint import check_fit, last_sound_checkpoint, load_from_local
from structseg_mmseg.engine.hooks import AtomicCheckpointHook
from tests.conftest import model_cfg
from tests.engine.test_adaptation_train_loop import trees  # noqa: F401
from tests.engine.test_adaptation_train_loop import assert_equal_checkpoints, runner_cfg, train

# Its server has imported all this and nothing more: each process starts at once, and afresh.
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload([__name__])

KILLS = int(os.environ.get('KILLS', 10))
FOREVER = 10**6


@METRICS.register_module()
class Progress(BaseMetric):
    """A score that is better each time."""

    def process(self, data_batch, data_samples):
        self.results.append(None)

    def compute_metrics(self, results):
        return dict(progress=MessageHub.get_current_instance().get_info('iter'))


def cfg(trees, work_dir, max_iters, keep=1, best=None, **kwargs):  # noqa: F811
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


def start(*args):
    process = PROCESSES.Process(target=run, args=args)
    process.start()
    return process


def assert_can_be_resumed(work_dir):
    pointer = work_dir / 'last_checkpoint'
    if pointer.exists():
        checkpoint = load_from_local(find_latest_checkpoint(str(work_dir)))
        check_fit(MODELS.build(model_cfg()), checkpoint)
    return pointer.exists()


def test_kills_change_nothing(trees, tmp_path):  # noqa: F811
    """At random moments: starting, resuming, training, writing. The last weights are the same."""
    draw = random.Random(0)
    work_dir = tmp_path / 'killed'
    process, begin = start(cfg(trees, tmp_path / 'first', FOREVER)), time.monotonic()
    while not (tmp_path / 'first/last_checkpoint').exists():
        time.sleep(0.01)
    until_saved = time.monotonic() - begin  # depends on what else the machine does
    process.kill()
    for _ in range(KILLS):
        process = start(cfg(trees, work_dir, FOREVER, resume=True))
        process.join(until_saved * draw.uniform(0.05, 1.8))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert_can_be_resumed(work_dir)
    iterations = 1 + load_from_local(find_latest_checkpoint(str(work_dir)))['meta']['iter']
    process = start(cfg(trees, work_dir, iterations, resume=True))
    process.join()
    straight = start(cfg(trees, tmp_path / 'straight', iterations))
    straight.join()
    assert process.exitcode == straight.exitcode == 0
    assert_equal_checkpoints(*(load_from_local(str(tmp_path / name / f'iter_{iterations}.pth'))
                               for name in ('killed', 'straight')))


@pytest.mark.parametrize('fatal,calls', [
    ('write', 2), ('fsync', 2), ('replace', 2), ('remove', 1)])
def test_every_step_of_saving_may_be_the_last(trees, tmp_path, fatal, calls):  # noqa: F811
    """Killed in the second checkpoint: one of them is found, and at most the first stays behind."""
    process = start(cfg(trees, tmp_path, 3), fatal, calls)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert assert_can_be_resumed(tmp_path)
    latest = int(pathlib.Path(find_latest_checkpoint(str(tmp_path))).stem.split('_')[1])
    assert latest == (2 if fatal == 'remove' else 1)
    train(cfg(trees, tmp_path, 3, resume=True))
    assert {path.name for path in tmp_path.glob('iter_*')} - {'iter_1.pth'} == {'iter_3.pth'}
    assert not list(tmp_path.glob('*.part'))


def test_killed_while_the_last_checkpoints_name_is_written(trees, tmp_path):  # noqa: F811
    """The newest one counts then; a higher number may be an older run's."""
    train(cfg(trees, tmp_path, 2, keep=2))
    shutil.copy(tmp_path / 'iter_1.pth', tmp_path / 'iter_9.pth')
    os.utime(tmp_path / 'iter_9.pth', (0, 0))
    (tmp_path / 'last_checkpoint').write_text('')
    assert last_sound_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')


@pytest.mark.parametrize('fatal,calls', [('write', 5), ('remove', 2)])
def test_there_is_a_best_checkpoint_all_the_time(trees, tmp_path, fatal, calls):  # noqa: F811
    """Killed while the second is written and while the first is removed: the last one names it."""
    process = start(cfg(trees, tmp_path, 3, best='progress'), fatal, calls)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    last = load_from_local(find_latest_checkpoint(str(tmp_path)))
    best = load_from_local(last['message_hub']['runtime_info']['best_ckpt'])
    assert best['meta']['iter'] == (1 if fatal == 'write' else 2)
    train(cfg(trees, tmp_path, 3, best='progress', resume=True))
    assert {path.name for path in tmp_path.glob('best_*')} - {'best_progress_iter_1.pth'} == {
        'best_progress_iter_3.pth'}


def test_as_many_are_kept_as_asked_for(trees, tmp_path):  # noqa: F811
    train(cfg(trees, tmp_path / 'two', 4, keep=2))
    train(cfg(trees, tmp_path / 'all', 3, keep=-1))
    for name, steps in (('two', (3, 4)), ('all', (1, 2, 3))):
        assert sorted(path.name for path in (tmp_path / name).glob('iter_*')) == [
            f'iter_{step}.pth' for step in steps]


def test_a_validation_alone_saves_nothing():
    AtomicCheckpointHook(by_epoch=False).after_val_epoch(None, dict(mIoU=1))
