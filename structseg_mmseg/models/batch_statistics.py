"""Running statistics of batch normalisation where two domains pass in turn.

While training, batch normalisation uses the statistics of the batch; its running statistics, which
inference uses, are made here. They are most of what separates two domains for some networks, so it
is said, not left to the order of the passes, which images they come from.
"""
from contextlib import contextmanager
from typing import Iterator, List, Optional, Sequence, Tuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

MODES = ('both', 'target', 'per_domain')


def live_norms(*modules: nn.Module) -> List[_BatchNorm]:
    """The layers that normalise by the batch and keep running statistics of it."""
    return [norm for norm in _norms(modules) if norm.training]


@contextmanager
def target_last(domain: str, *modules: nn.Module) -> Iterator[None]:
    r"""Weigh a pass in the running statistics as if the source's came first, as in [14].

    There, a step turns :math:`r` into :math:`(1-m)^2 r + m(1-m) S + m T` with momentum :math:`m`.
    With the target first, momentum :math:`m/(1-m(1-m))` for it and :math:`m(1-m)` for the source
    give the same. A momentum of None averages all batches alike, whatever their order.

    Args:
        domain (str): Whose pass it is, ``target``, which comes first, or ``source``.
        *modules (nn.Module): Whose layers see both passes.
    """
    norms = [(norm, norm.momentum) for norm in live_norms(*modules) if norm.momentum is not None]
    for norm, m in norms:
        norm.momentum = m * (1 - m) if domain == 'source' else m / (1 - m * (1 - m))
    try:
        yield
    finally:
        for norm, m in norms:
            norm.momentum = m


class _Statistics(nn.Module):
    """A layer's running statistics, once more."""

    def __init__(self, norm: _BatchNorm, persistent: bool) -> None:
        super().__init__()
        for name, value in norm.named_buffers(recurse=False):
            self.register_buffer(name, value.clone(), persistent=persistent)


class SourceStatistics(nn.Module):
    """A second set of running statistics, the source's; the layers themselves hold the target's.

    Args:
        modules (list[nn.Module]): The parts that both domains pass.
        persistent (bool): Whether checkpoints keep the set, so that it can serve inference.
    """

    def __init__(self, modules: List[nn.Module], persistent: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Statistics(norm, persistent) for norm in _norms(modules))

    @contextmanager
    def in_use(self, modules: List[nn.Module]) -> Iterator[None]:
        """Put the set in the place of the layers' own.

        Layers that never saw a batch, as their statistics are frozen, keep their own.
        """
        pairs = [(norm, layer) for norm, layer in zip(_norms(modules), self.layers)
                 if norm.training or layer.num_batches_tracked]
        self._swap(pairs)
        try:
            yield
        finally:
            self._swap(pairs)

    @staticmethod
    def _swap(pairs: Sequence[Tuple[nn.Module, nn.Module]]) -> None:
        for norm, layer in pairs:
            norm._buffers, layer._buffers = layer._buffers, norm._buffers


def _norms(modules: Sequence[Optional[nn.Module]]) -> List[_BatchNorm]:
    # Looked up anew each time, as SyncBN takes the place of layers after a model is built.
    return [norm for module in modules if module is not None for norm in module.modules()
            if isinstance(norm, _BatchNorm) and norm.track_running_stats]
