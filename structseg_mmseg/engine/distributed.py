"""Distributed runs: meeting without a GPU, and having the same in hand."""
import os
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Iterable, Iterator, Tuple
from zlib import crc32

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from torch import distributed

import structseg_mmseg
from structseg_mmseg.engine.stack import stack
from structseg_mmseg.errors import InputError


def join_cpu_group() -> None:
    """Join the processes that torchrun or Slurm started, over gloo, if there is no GPU.

    mmengine's launchers choose a CUDA device whatever the backend; a group that is joined before
    its runner is built they leave alone. With a GPU, mmengine joins by ``env_cfg.dist_cfg``.
    """
    parser = ArgumentParser(add_help=False)
    parser.add_argument('--launcher')
    slurm = parser.parse_known_args()[0].launcher == 'slurm'
    if torch.cuda.is_available() or not (slurm or 'TORCHELASTIC_RUN_ID' in os.environ):
        return
    if slurm:  # the same names and port as mmengine's
        env = os.environ
        env.update(RANK=env['SLURM_PROCID'], LOCAL_RANK=env['SLURM_LOCALID'],
                   WORLD_SIZE=env['SLURM_NTASKS'])
        env.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in env:
            env['MASTER_ADDR'] = subprocess.check_output(
                ['scontrol', 'show', 'hostname', env['SLURM_NODELIST']], text=True).split()[0]
    distributed.init_process_group('gloo')


def check_ranks(traits: Iterable[Tuple[str, Any]]) -> None:
    """See to it that all ranks train the same: each of them raises the same, so that none waits.

    Args:
        traits (Iterable[tuple[str, Any]]): What they must have in common, by name.

    Raises:
        InputError: If they have not; it names the first that differs.
    """
    first, *others = all_gather_object(dict(traits))
    for rank, other in enumerate(others, 1):
        for key in [*first, *other]:
            if first.get(key) != other.get(key):
                raise InputError(f'{key} is {first.get(key)} on rank 0 and {other.get(key)} on '
                                 f'rank {rank}: start all ranks with the same code, config and '
                                 'files')


def software_and_config(cfg: Config) -> Iterator[Tuple[str, Any]]:
    """What ranks must have in common before their models are; for :func:`check_ranks`."""
    yield 'the software', stack()
    package = Path(structseg_mmseg.__file__).parent
    code = b''.join(path.read_bytes() for path in sorted(package.rglob('*.py')))
    yield 'the checksum of structseg_mmseg', crc32(code)
    yield from _leaves('', cfg.to_dict())


def _leaves(name: str, value: Any) -> Iterator[Tuple[str, str]]:
    """A config's single values, by their full keys, but for places."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key not in ('data_root', 'load_from', 'work_dir'):
                yield from _leaves(f'{name}.{key}' if name else str(key), child)
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from _leaves(f'{name}.{index}', child)
    else:
        yield name, repr(value).split(' at 0x')[0]  # of an object, without its address
