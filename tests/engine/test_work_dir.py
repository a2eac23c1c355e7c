"""What may happen to a work dir: no room, no rights, damage, another config, another training."""
import errno
import fcntl
import os
import shutil
import socket
import subprocess
import time

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmseg.registry import RUNNERS

from structseg_mmseg.engine.checkpoint import load_from_local
from structseg_mmseg.engine.runner import adaptation_runner
from structseg_mmseg.errors import InputError
from tests.helpers.runs import (PROCESSES, assert_equal_checkpoints, checkpoint_cfg, process_group,
                                record, run, train)
from tests.helpers.tools import sentence


def cfg(*args, **kwargs):
    return dict(checkpoint_cfg(*args, **kwargs), runner_type='AdaptationRunner')


def with_tests(config):
    """A config that tests with what it validates with."""
    return dict(config, **{f'test_{key}': config[f'val_{key}']
                           for key in ('dataloader', 'cfg', 'evaluator')})


def logged(work_dir):
    """What the last run there has logged."""
    return max(work_dir.glob('2*/*.log')).read_text()


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, of 16 MiB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder]).returncode:
        pytest.skip('only root may mount a disk')
    yield folder
    subprocess.run(['umount', '--lazy', folder], check=True)


class FillDisk(Hook):
    """Leaves but so many bytes of a disk free, before the second iteration."""

    def __init__(self, disk, free):
        self.disk, self.free = disk, free

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            (self.disk / 'filler').write_bytes(bytes(shutil.disk_usage(self.disk).free - self.free))
            runner.logger.warning('a long line' * 1000)


@pytest.mark.parametrize('free,options,file', [
    (100_000, {}, 'iter_2.pth'),
    # Of the picture OpenCV says nothing that could be caught, but the log is next.
    (0, dict(logger=dict(type='LoggerHook', interval=2, log_metric_by_epoch=False),
             panel=dict(type='PanelHook', interval=2)), 'the log')],
    ids=['checkpoint', 'picture and log'])
def test_a_full_disk(disk, trees, free, options, file, capfd):
    """One sentence, a sound checkpoint, nothing half written; with room the run goes on."""
    def fill():
        config = cfg(trees, disk / 'work', 3)
        config['default_hooks'].update(options)
        runner = RUNNERS.build(Config(config))
        runner.register_hook(FillDisk(disk, free))
        runner.train()

    text = sentence(fill)
    assert text.endswith(f'{file} cannot be written, as the disk is full: make room and go on from '
                         f'{disk}/work/iter_1.pth with --resume')
    assert 'Logging error' not in capfd.readouterr().err
    assert not list(disk.rglob('*.part')) and not list(disk.rglob('iter_2.pth'))
    (disk / 'filler').unlink()
    assert train(cfg(trees, disk / 'work', 3, resume=True))[0]['meta']['iter'] == 3


def test_a_read_only_disk(disk, trees):
    (disk / 'there').mkdir()
    subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
    for name in ('there', 'new'):
        text = sentence(lambda: record(cfg(trees, disk / name, 1)))
        assert str(disk / name) in text
        assert text.endswith(': check the path and its rights, or give another')


def resume_on_a_rank(rank, folder, options):
    """The second rank has to take the first one's word."""
    if rank:
        adaptation_runner.last_sound_checkpoint = None
    os.environ['LOCAL_RANK'] = str(rank)
    with process_group(rank, 2, folder):
        record(dict(options, launcher='pytorch', model_wrapper_cfg=dict(
            type='AdaptationDistributedDataParallel')))


def test_a_damaged_checkpoint_is_passed_over(trees, tmp_path):
    """Whatever the damage; but none from behind it is taken, and none for one that is named."""
    work_dir = tmp_path / 'work'
    straight, _ = train(cfg(trees, work_dir, 4, keep=-1))
    last = work_dir / 'iter_3.pth'
    (work_dir / 'last_checkpoint').write_text(str(last))
    weight = load_from_local(str(last))['state_dict']['backbone.conv1.weight']
    flipped = bytearray(last.read_bytes())
    flipped[flipped.index(weight.numpy().tobytes())] ^= 1
    last.write_bytes(flipped)
    (work_dir / 'iter_2.pth').write_bytes(flipped[:-100])
    named = with_tests(cfg(trees, work_dir, 4, best='progress', resume=True, load_from=str(last)))
    for job in (RUNNERS.build(Config(named)).test,
                lambda: record(dict(named, work_dir=str(tmp_path / 'new')))):
        with pytest.raises(InputError, match='iter_3.pth'):
            job()
    resumed, _ = train(cfg(trees, work_dir, 4, keep=-1, resume=True))
    assert_equal_checkpoints(resumed, straight)
    warning, = [line for line in logged(work_dir).splitlines() if 'the run goes on from' in line]
    assert warning.index('iter_3.pth is not a checkpoint') < warning.index('iter_2.pth is not a')
    assert warning.endswith(f'; the run goes on from {work_dir}/iter_1.pth')

    (work_dir / 'iter_4.pth').write_bytes(b'')
    options = cfg(trees, work_dir, 4, keep=-1, resume=True)
    processes = [PROCESSES.Process(target=resume_on_a_rank, args=(rank, str(tmp_path), options))
                 for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert load_from_local(str(work_dir / 'iter_4.pth'))['meta']['iter'] == 4

    for path in work_dir.glob('iter_*'):
        path.write_bytes(b'')
    with pytest.raises(InputError, match=f'and {work_dir} has no sound checkpoint from before'):
        record(options)


def test_nothing_to_resume(trees, tmp_path):
    """``load_from`` initialises then: a job script may always pass ``--resume``."""
    train(cfg(trees, tmp_path / 'first', 4))
    options = cfg(trees, tmp_path / 'second', 2, load_from=str(tmp_path / 'first/iter_4.pth'))
    initialised, _ = train(options)
    resumed, _ = train(dict(options, work_dir=str(tmp_path / 'third'), resume=True))
    assert_equal_checkpoints(resumed, initialised)


def test_another_config_is_told(trees, tmp_path):
    """By the lines that differ from the text in the checkpoint."""
    train(cfg(trees, tmp_path, 1))
    options = cfg(trees, tmp_path, 2, resume=True)
    record(options)
    said = logged(tmp_path)
    said = said[said.index(f'the config differs from that of {tmp_path}/iter_1.pth:\n'):]
    assert 'max_iters=1' in said.splitlines()[1] and 'max_iters=2' in said.splitlines()[2]
    # Nothing about `resume`, which says how the run is started.
    assert said.splitlines()[1].startswith('-') and not said.splitlines()[3].startswith(('-', '+'))


def test_one_training_at_a_time(trees, tmp_path, monkeypatch):
    """The second is told of the first; when that one is killed, it begins at once."""
    work_dir = tmp_path / 'work'
    process = PROCESSES.Process(target=run, args=(cfg(trees, work_dir, 100_000, workers=1), ))
    process.start()
    while not (work_dir / 'last_checkpoint').exists():
        time.sleep(0.05)
    with pytest.raises(InputError, match=f'{work_dir} is the work dir of a running training .'
                                         f'process {process.pid} on {socket.gethostname()}'):
        record(cfg(trees, work_dir, 1))
    config = with_tests(cfg(trees, work_dir, 1, best='progress'))
    assert 'progress' in RUNNERS.build(Config(config)).test()
    process.kill()
    process.join()
    record(cfg(trees, work_dir, 1))  # the data loader's workers are still there

    def lockf(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', lockf)
    record(cfg(trees, work_dir, 1))
