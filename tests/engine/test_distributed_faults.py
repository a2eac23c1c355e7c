"""Ranks that die or differ: two real processes, as Slurm would start them."""
import os
import re
import shutil
import signal
import socket
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, find_latest_checkpoint
from mmseg.registry import DATASETS, MODELS

from structseg_mmseg.engine.checkpoint import check_fit, load_from_local
from structseg_mmseg.engine import distributed
from structseg_mmseg.engine.hooks import InputCheckHook
from structseg_mmseg.engine.runner import AdaptationRunner
from structseg_mmseg.errors import InputError
from tests.helpers.data import write_cityscapes, write_gta
from tests.helpers.models import model_cfg
from tests.helpers.runs import PROCESSES, runner_cfg


def work(rank, folder, port, target, *args):
    """Join another rank over gloo, then do it."""
    os.dup2(os.open(folder / f'stderr{rank}', os.O_CREAT | os.O_WRONLY), 2)
    init_default_scope('mmseg')
    os.environ.pop('MASTER_ADDR', None)
    os.environ.update(
        SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS='2', SLURM_NODELIST='node',
        MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES='', PATH=f'{folder}:{os.environ["PATH"]}')
    sys.argv[1:] = ['--launcher', 'slurm']
    distributed.join_cpu_group()
    target(rank, *args)


@pytest.fixture
def start(tmp_path):
    """Starts two ranks that do the same; none is left when the test is over."""
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostname node" ] && echo 127.0.0.1\n')
    scontrol.chmod(0o755)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    ranks = []

    def start(target, *args):
        for rank in range(2):
            ranks.append(PROCESSES.Process(
                target=work, args=(rank, tmp_path, port, target, *args)))
            ranks[rank].start()
        return ranks

    yield start
    for rank in ranks:
        rank.kill()
        rank.join()


@pytest.fixture
def cfg(tmp_path):
    trees = write_gta(tmp_path / 'gta', 3), write_cityscapes(tmp_path / 'cs', 3)
    cfg = runner_cfg(trees, tmp_path / 'work', 100_000, launcher='slurm')
    cfg['model_wrapper_cfg'] = dict(type='AdaptationDistributedDataParallel')
    cfg['default_hooks'].update(checkpoint=dict(
        type='AtomicCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1))
    return cfg


def train(rank, cfg):
    runner = Runner.from_cfg(Config(cfg))
    runner.train()
    return runner


def dies_while_another_saves(rank, cfg, victim):
    """The other dies in the middle of the second checkpoint."""
    put, files = LocalBackend.put, []

    def put_slowly(self, content, path):
        files.append(len(content) > 10_000)
        if files[-1] and sum(files) == 2:
            put(self, content[:len(content) // 2], path)
            os.kill(int(victim.read_text()), signal.SIGKILL)
        put(self, content, path)

    LocalBackend.put = put_slowly
    if rank == 1:
        victim.write_text(str(os.getpid()))
    train(rank, cfg)


def test_a_rank_that_dies_while_another_saves(cfg, start, tmp_path):
    """Ends the other one by an error, where no launcher does, behind a checkpoint that loads."""
    survivor, victim = start(dies_while_another_saves, cfg, tmp_path / 'victim')
    survivor.join(100)
    assert survivor.exitcode not in (None, 0) and victim.exitcode == -signal.SIGKILL
    checkpoint = load_from_local(find_latest_checkpoint(str(tmp_path / 'work')))
    check_fit(MODELS.build(model_cfg()), checkpoint)
    assert checkpoint['meta']['iter'] == 4


# Each comes on top of those before, and is named first.
REFUSED = {
    'number': 'the number of source images is 3 on rank 0 and 2 on rank 1: ',
    'resumed': 'the first iteration is 2 on rank 0 and 8 on rank 1: ',
    'config': r'the hash of the config is \w+ on rank 0 and \w+ on rank 1: ',
}


def differ(rank, folder, cfgs):
    runner = train(rank, cfgs[rank])
    other = Config(dict(cfgs[rank], experiment_name='other'))
    for case in REFUSED:
        if rank == 1:
            change(runner, other, case)
        with pytest.raises(InputError) as error:
            if case == 'config':
                AdaptationRunner.from_cfg(other)
            else:
                InputCheckHook().before_train(runner)
        (folder / f'{case}{rank}').write_text(str(error.value))


def change(runner, other, case):
    """Make this rank differ from the other one, once more."""
    if case == 'number':
        seeded = runner.train_loop.dataloaders['source'].dataset
        sorted(Path(seeded.dataset.data_prefix['img_path']).rglob('*.png'))[1].unlink()
        seeded.dataset = DATASETS.build(runner.cfg.train_dataloader.dataset)
    elif case == 'resumed':
        runner.train_loop._iter = 7
    else:
        other.model.terms.adversary.discriminator.channels = 5


def test_ranks_that_differ_are_refused(cfg, start, tmp_path):
    """All of them in the same words; but roots and work dirs are each machine's own."""
    cfg['train_cfg']['max_iters'] = 1
    other = deepcopy(cfg)
    for domain, root in (('train', 'gta'), ('target', 'cs')):
        shutil.copytree(tmp_path / root, tmp_path / 'other' / root)
        other[f'{domain}_dataloader']['dataset']['data_root'] = str(tmp_path / 'other' / root)
    other['work_dir'] = str(tmp_path / 'other/work')
    ranks = start(differ, tmp_path, [cfg, other])
    for rank in ranks:
        rank.join(100)
    assert [rank.exitcode for rank in ranks] == [0, 0], (tmp_path / 'stderr1').read_text()
    for case, sentence in REFUSED.items():
        one, other = ((tmp_path / f'{case}{rank}').read_text() for rank in range(2))
        assert re.match(sentence, one) and one == other
