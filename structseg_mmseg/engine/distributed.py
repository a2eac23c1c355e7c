"""Distributed runs: joining without a GPU, and a check that all ranks train the same."""
import os
import re
import subprocess
from argparse import ArgumentParser
from hashlib import sha256
from typing import Any, Dict

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from torch import distributed

from structseg_mmseg.errors import InputError


def join_cpu_group() -> None:
    """Join the processes that torchrun or Slurm started, over gloo, if there is no GPU.

    mmengine's launchers choose a CUDA device whatever the backend; they leave a group alone that
    was joined before its runner is built. With a GPU, mmengine joins by ``env_cfg.dist_cfg``.
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


def check_ranks(traits: Dict[str, Any]) -> None:
    """Check that all ranks agree; every rank raises the same error, so none hangs.

    Args:
        traits (dict[str, Any]): What they must have in common, by name.

    Raises:
        InputError: If they do not; it names the first trait that differs.
    """
    first, *others = all_gather_object(traits)
    for rank, other in enumerate(others, 1):
        for key in first:
            if first[key] != other.get(key):
                raise InputError(f'{key} is {first[key]} on rank 0 and {other.get(key)} on rank '
                                 f'{rank}: start all ranks with the same config and files')


def config_hash(cfg: Config) -> str:
    """A hash of the config's text, without the folders, which may be each machine's own."""
    text = re.sub(r'\b(data_root|load_from|work_dir) ?= ?\S+', '', cfg.pretty_text)
    return sha256(text.encode()).hexdigest()[:8]
