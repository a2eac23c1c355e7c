"""Running statistics of batch normalisation where several passes make one iteration.

In training, batch normalisation uses the statistics of the batch; its running statistics, which
inference uses, are made here. They are most of what separates two domains for some networks, so
which images they come from is stated, not left to the order of the passes.
"""
from contextlib import ExitStack, contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .passes import Pass

MODES = ('both', 'target', 'per_domain')


def live_norms(*modules: nn.Module) -> List[_BatchNorm]:
    """The layers that normalise by the batch and keep running statistics of it."""
    return [norm for norm in _norms(modules) if norm.training]


def momenta(reference: Sequence[str], order: Sequence[str], momentum: float) -> Dict[str, float]:
    r"""Momenta with which passes in one order leave the running statistics of another order.

    In the reference order, pass j of n weighs :math:`w_j = m (1-m)^{n-j}` in the result, with j
    from 1 to n. The same weights come out of any order if a pass uses the momentum :math:`w_j`
    divided by the product of :math:`1 - m_i` over the passes i that follow it. For instance, with
    the target first and the source last instead of the other way round, these are
    :math:`m / (1 - m(1-m))` and :math:`m(1-m)`.

    Args:
        reference (Sequence[str]): Names of the passes in the order to be equalled.
        order (Sequence[str]): The same names in the order in which they run.
        momentum (float): Of the layer, m.
    """
    weights = {name: momentum * (1 - momentum)**later
               for later, name in enumerate(reversed(reference))}
    result, kept = {}, 1.
    for name in reversed(order):
        result[name] = weights[name] / kept
        kept -= weights[name]
    return result


@contextmanager
def reference_order(name: str, reference: Sequence[str], order: Sequence[str],
                    *modules: nn.Module) -> Iterator[None]:
    """Weigh a pass in the running statistics as if the passes ran in the reference order.

    A momentum of None averages all batches alike, whatever their order.

    Args:
        name (str): The pass that runs in this context.
        reference (Sequence[str]): See :func:`momenta`; likewise ``order``.
        order (Sequence[str]): Names of the passes as they run.
        *modules (nn.Module): Modules that all of these passes run through.
    """
    norms = [(norm, norm.momentum) for norm in live_norms(*modules) if norm.momentum is not None]
    weighed = {momentum: momenta(reference, order, momentum)[name]
               for momentum in {momentum for _, momentum in norms}}
    for norm, momentum in norms:
        norm.momentum = weighed[momentum]
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum


class kept_statistics:  # noqa: N801  a context manager, as `torch.no_grad` is
    """A context, to be entered any number of times, in which batches leave no statistics behind.

    Args:
        *modules (nn.Module): Whose layers keep their running statistics.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.norms = _norms(modules)

    def __enter__(self) -> None:
        self.states = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]
        for norm in self.norms:
            norm.momentum, norm.num_batches_tracked = 0, None

    def __exit__(self, *_) -> None:
        for norm, state in zip(self.norms, self.states):
            norm.momentum, norm.num_batches_tracked = state


class _Statistics(nn.Module):
    """A copy of a layer's running statistics."""

    def __init__(self, norm: _BatchNorm, persistent: bool) -> None:
        super().__init__()
        for name, value in norm.named_buffers(recurse=False):
            self.register_buffer(name, value.clone(), persistent=persistent)


class SourceStatistics(nn.Module):
    """A second set of running statistics, the source's; the layers themselves hold the target's.

    Args:
        modules (Sequence[nn.Module]): The parts that images of both domains run through.
        persistent (bool): Whether checkpoints hold the set, so that it can serve inference.
    """

    def __init__(self, modules: Sequence[nn.Module], persistent: bool) -> None:
        super().__init__()
        self._parts = tuple(modules)  # a tuple, so that they are no sub-modules
        self.layers = nn.ModuleList(_Statistics(norm, persistent) for norm in _norms(modules))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Put the set in the place of the layers' own.

        Layers that never saw a batch, as their statistics are frozen, keep their own.
        """
        pairs = [(norm, layer) for norm, layer in zip(_norms(self._parts), self.layers)
                 if norm.training or layer.num_batches_tracked]
        _swap(pairs)
        try:
            yield
        finally:
            _swap(pairs)


@contextmanager
def running_statistics(one: Pass, passes: Sequence[Pass], reference: Sequence[str],
                       modules_of: Callable[[str], List[nn.Module]],
                       source: Optional[SourceStatistics] = None) -> Iterator[None]:
    """A context for one pass of a step: what it leaves in the running statistics.

    Args:
        one (Pass): The pass.
        passes (Sequence[Pass]): All of the step, as they run.
        reference (Sequence[str]): Their names in the order that the statistics are to equal.
        modules_of (Callable): Gives the modules that a pass of a name runs through.
        source (SourceStatistics, optional): The set for batches of the source, if it is a second.
    """
    kind = one.batch.statistics
    with ExitStack() as stack:
        if kind is None:
            stack.enter_context(kept_statistics(*modules_of(one.name)))
        elif source is not None and kind == 'source':
            stack.enter_context(source.in_use())
        peers = [other.name for other in passes if kind is not None
                 and other.batch.statistics in ((kind,) if source else ('source', 'target'))]
        if len(peers) > 1:
            reach = {name: modules_of(name) for name in peers}
            for module in reach[one.name]:
                order = [name for name in peers if any(module is other for other in reach[name])]
                stack.enter_context(reference_order(
                    one.name, [name for name in reference if name in order], order, module))
        yield


def _swap(pairs: Sequence[Tuple[nn.Module, nn.Module]]) -> None:
    for norm, layer in pairs:
        norm._buffers, layer._buffers = layer._buffers, norm._buffers


def _norms(modules: Sequence[Optional[nn.Module]]) -> List[_BatchNorm]:
    # Looked up anew each time, as SyncBN takes the place of layers after a model is built.
    return [norm for module in modules if module is not None for norm in module.modules()
            if isinstance(norm, _BatchNorm) and norm.track_running_stats]
