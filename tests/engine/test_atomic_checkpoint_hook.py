"""Runs that are killed: real processes, SIGKILL, and what the next run makes of it."""
import functools
import multiprocessing
import os
import pathlib
import random
import signal
import time

import pytest
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, find_latest_checkpoint
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import check_fit, load_from_local
from tests.conftest import model_cfg
from tests.engine.test_adaptation_train_loop import trees  # noqa: F401
from tests.engine.test_adaptation_train_loop import assert_equal_checkpoints, runner_cfg, train

# Its server has imported all this and nothing more: each process starts at once, and afresh.
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload([__name__])


def cfg(trees, work_dir, max_iters, keep=1, **kwargs):  # noqa: F811
    options = runner_cfg(trees, work_dir, max_iters, **kwargs)
    options['default_hooks']['checkpoint'] = dict(
        type='AtomicCheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=keep)
    return options


def run(options, fatal=None, calls=1):
    """Train; die in the n-th call of a function, if one is named."""
    init_default_scope('mmseg')
    if fatal is not None:
        owner, name = dict(
            write=(LocalBackend, 'put'), fsync=(os, 'fsync'), replace=(os, 'replace'),
            write_text=(pathlib.Path, 'write_text'), unlink=(pathlib.Path, 'unlink'))[fatal]
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
    Runner.from_cfg(Config(options)).train()


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


def test_20_kills_change_nothing(trees, tmp_path):  # noqa: F811
    """At random moments: starting, resuming, training, writing. The last weights are the same."""
    iterations, kept = 200, []
    draw = random.Random(0)
    work_dir = tmp_path / 'killed'
    process, begin = start(cfg(trees, tmp_path / 'first', iterations)), time.monotonic()
    while not (tmp_path / 'first/last_checkpoint').exists():
        time.sleep(0.01)
    until_saved = time.monotonic() - begin  # depends on what else the machine does
    process.kill()
    for _ in range(20):
        process = start(cfg(trees, work_dir, iterations, resume=True))
        process.join(until_saved * draw.uniform(0.05, 1.8))
        assert process.exitcode is None, 'it was over before it was killed'
        process.kill()
        process.join()
        kept.append(assert_can_be_resumed(work_dir))
    assert any(kept)
    process = start(cfg(trees, work_dir, iterations, resume=True))
    process.join()
    straight = start(cfg(trees, tmp_path / 'straight', iterations))
    straight.join()
    assert process.exitcode == straight.exitcode == 0
    assert_equal_checkpoints(*(load_from_local(str(tmp_path / name / f'iter_{iterations}.pth'))
                               for name in ('killed', 'straight')))
    assert [path.name for path in work_dir.glob('iter_*')] == [f'iter_{iterations}.pth']


@pytest.mark.parametrize('fatal,calls', [
    ('write', 2), ('fsync', 3), ('replace', 3), ('write_text', 2), ('fsync', 4), ('replace', 4),
    ('unlink', 1)])
def test_every_step_of_saving_may_be_the_last(trees, tmp_path, fatal, calls):  # noqa: F811
    """Killed in the second checkpoint: one of them is found, and no third one stays behind."""
    process = start(cfg(trees, tmp_path, 3), fatal, calls)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert assert_can_be_resumed(tmp_path)
    latest = int(pathlib.Path(find_latest_checkpoint(str(tmp_path))).stem.split('_')[1])
    assert latest == (2 if fatal == 'unlink' else 1)
    train(cfg(trees, tmp_path, 3, resume=True))
    assert [path.name for path in tmp_path.glob('iter_*')] == ['iter_3.pth']


def test_as_many_are_kept_as_asked_for(trees, tmp_path):  # noqa: F811
    train(cfg(trees, tmp_path / 'two', 4, keep=2))
    train(cfg(trees, tmp_path / 'all', 3, keep=-1))
    for name, steps in (('two', (3, 4)), ('all', (1, 2, 3))):
        assert sorted(path.name for path in (tmp_path / name).glob('iter_*')) == [
            f'iter_{step}.pth' for step in steps]
