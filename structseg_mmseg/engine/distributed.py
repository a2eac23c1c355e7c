"""Distributed runs on machines without a GPU."""
import os

import torch
from torch import distributed


def join_cpu_group() -> None:
    """Join the processes that torchrun started, over gloo, if there is no GPU.

    mmengine's launchers choose a CUDA device whatever the backend; a group that is joined before
    its runner is built they leave alone. With a GPU, mmengine joins by ``env_cfg.dist_cfg``.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ and not torch.cuda.is_available():
        distributed.init_process_group('gloo')
