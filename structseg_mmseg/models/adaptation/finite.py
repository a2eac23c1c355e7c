import logging
from typing import Dict, Iterable, List

import torch
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub, print_log
from torch import Tensor

from structseg_mmseg.errors import NonFiniteLossError


def all_finite(logs: Dict[str, Dict[str, Tensor]], skip: bool, buffers: Iterable[Tensor]) -> bool:
    """Whether no loss is NaN or infinite on any rank: all ranks agree on what to do.

    Args:
        logs (dict[str, dict]): What each pass logs, by its name.
        skip (bool): Whether a step may be skipped on all ranks, with a warning.
        buffers (Iterable[Tensor]): Those of the model.

    Raises:
        NonFiniteLossError: If a loss is not finite and the step may not be skipped, or cannot, as
            buffers are not finite either.
    """
    losses = {f'{key} of the {name} pass': value for name, log in logs.items()
              for key, value in log.items() if 'loss' in key and key != 'loss'}
    bad = _on_any_rank(list(losses.values()))
    if not any(bad):
        return True
    names = ', '.join(name for name, count in zip(losses, bad) if count)
    iteration = MessageHub.get_current_instance().get_info('iter', 0) + 1
    sentence = f'not finite at iteration {iteration}: {names}'
    if not skip:
        raise NonFiniteLossError(
            f"{sentence}; lower the learning rates, clip the gradients (clip_grad), or set "
            "model.nonfinite_loss='skip' to go on without such iterations")
    if any(_on_any_rank(list(buffers))):
        raise NonFiniteLossError(
            f'{sentence}; the step cannot be skipped, as the running statistics of batch '
            'normalisation are not finite either: lower the learning rates and --resume')
    print_log(f'{sentence}; the step is skipped', 'current', logging.WARNING)
    return False


def _on_any_rank(values: List[Tensor]) -> List[float]:
    """1 for each tensor that is not finite on some rank, 0 for others."""
    # One tensor: one exchange between ranks, one wait for the device.
    bad = 1 - torch.stack([value.isfinite().all() for value in values]).float()
    all_reduce(bad, 'max')
    return bad.tolist()
