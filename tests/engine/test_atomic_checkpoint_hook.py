"""Runs that are killed: real processes, SIGKILL, and what the next run makes of it.

``KILLS=50`` makes them more.
"""
import os
import pathlib
import random
import shutil
import signal
import time

import pytest
from mmengine.runner import find_latest_checkpoint
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import check_fit, last_sound_checkpoint, load_from_local
from structseg_mmseg.engine.hooks import AtomicCheckpointHook
from tests.helpers.models import model_cfg
from tests.helpers.runs import PROCESSES, assert_equal_checkpoints, checkpoint_cfg, run, train

KILLS = int(os.environ.get('KILLS', 6))
FOREVER = 10**6


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


def test_kills_change_nothing(trees, tmp_path):
    """At random moments: starting, resuming, training, writing. The last weights are the same."""
    draw = random.Random(0)
    work_dir = tmp_path / 'killed'
    process, begin = start(checkpoint_cfg(trees, tmp_path / 'first', FOREVER)), time.monotonic()
    while not (tmp_path / 'first/last_checkpoint').exists():
        time.sleep(0.01)
    until_saved = time.monotonic() - begin  # depends on what else the machine does
    process.kill()
    for _ in range(KILLS):
        process = start(checkpoint_cfg(trees, work_dir, FOREVER, resume=True))
        process.join(until_saved * draw.uniform(0.05, 1.8))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert_can_be_resumed(work_dir)
    iterations = 1 + load_from_local(find_latest_checkpoint(str(work_dir)))['meta']['iter']
    process = start(checkpoint_cfg(trees, work_dir, iterations, resume=True))
    process.join()
    straight = start(checkpoint_cfg(trees, tmp_path / 'straight', iterations))
    straight.join()
    assert process.exitcode == straight.exitcode == 0
    assert_equal_checkpoints(*(load_from_local(str(tmp_path / name / f'iter_{iterations}.pth'))
                               for name in ('killed', 'straight')))


@pytest.mark.parametrize('fatal,calls', [
    ('write', 2), ('fsync', 2), ('replace', 2), ('remove', 1)])
def test_every_step_of_saving_may_be_the_last(trees, tmp_path, fatal, calls):
    """Killed in the second checkpoint: one of them is found, and at most the first stays behind."""
    process = start(checkpoint_cfg(trees, tmp_path, 3), fatal, calls)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert assert_can_be_resumed(tmp_path)
    latest = int(pathlib.Path(find_latest_checkpoint(str(tmp_path))).stem.split('_')[1])
    assert latest == (2 if fatal == 'remove' else 1)
    train(checkpoint_cfg(trees, tmp_path, 3, resume=True))
    assert {path.name for path in tmp_path.glob('iter_*')} - {'iter_1.pth'} == {'iter_3.pth'}
    assert not list(tmp_path.glob('*.part'))


def test_killed_while_the_last_checkpoints_name_is_written(trees, tmp_path):
    """The newest one counts then; a higher number may be an older run's."""
    train(checkpoint_cfg(trees, tmp_path, 2, keep=2))
    shutil.copy(tmp_path / 'iter_1.pth', tmp_path / 'iter_9.pth')
    os.utime(tmp_path / 'iter_9.pth', (0, 0))
    (tmp_path / 'last_checkpoint').write_text('')
    assert last_sound_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')


@pytest.mark.parametrize('fatal,calls', [('write', 5), ('remove', 2)])
def test_there_is_a_best_checkpoint_all_the_time(trees, tmp_path, fatal, calls):
    """Killed while the second is written and while the first is removed: the last one names it."""
    process = start(checkpoint_cfg(trees, tmp_path, 3, best='progress'), fatal, calls)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    last = load_from_local(find_latest_checkpoint(str(tmp_path)))
    best = load_from_local(last['message_hub']['runtime_info']['best_ckpt'])
    assert best['meta']['iter'] == (1 if fatal == 'write' else 2)
    train(checkpoint_cfg(trees, tmp_path, 3, best='progress', resume=True))
    assert {path.name for path in tmp_path.glob('best_*')} - {'best_progress_iter_1.pth'} == {
        'best_progress_iter_3.pth'}


def test_as_many_are_kept_as_asked_for(trees, tmp_path):
    train(checkpoint_cfg(trees, tmp_path / 'two', 4, keep=2))
    train(checkpoint_cfg(trees, tmp_path / 'all', 3, keep=-1))
    for name, steps in (('two', (3, 4)), ('all', (1, 2, 3))):
        assert sorted(path.name for path in (tmp_path / name).glob('iter_*')) == [
            f'iter_{step}.pth' for step in steps]


def test_a_validation_alone_saves_nothing():
    AtomicCheckpointHook(by_epoch=False).after_val_epoch(None, dict(mIoU=1))
