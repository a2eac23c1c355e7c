from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional

import torch
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS  # where the runner looks the name up
from torch import Tensor, nn

from structseg_mmseg.errors import InputError


@MODEL_WRAPPERS.register_module()
class AdaptationDistributedDataParallel(MMDistributedDataParallel):
    """Distributed training of a segmentor that makes several passes in an iteration.

    The segmentor's own ``train_step`` runs, its passes through this wrapper. Gradients are
    exchanged once, during the backward pass inside :meth:`exchange`, for all parameters that this
    or earlier passes have reached on any rank; parameters that none has reached keep no gradient.

    For that, DDP runs with ``find_unused_parameters=True``, but its search of the graph finds all
    parameters at once, in a node of :class:`_AllReached`, and those that the backward pass did not
    reach are reported afterwards by the same node. (So torch's remark that it did not find any
    unused parameters can be ignored.)

    Buffers are each rank's own: broadcasting them between two passes would change the statistics
    of batch normalisation under the graph.

    Args:
        module (nn.Module): An :class:`AdaptationSegmentor`.
        **kwargs: As in ``MMDistributedDataParallel``.

    Raises:
        InputError: If ranks without a GPU are to share the statistics of batch normalisation.
    """

    def __init__(self,
                 module: nn.Module,
                 broadcast_buffers: bool = False,
                 device_ids: Optional[List[int]] = None,
                 **kwargs) -> None:
        if not torch.cuda.is_available():
            device_ids = None  # mmengine's runner names one even where there is none
            if any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
                raise InputError('ranks on CPUs cannot share the statistics of batch '
                                 "normalisation: set sync_bn=None, and norm_cfg.type='BN'")
        super().__init__(
            module=module, broadcast_buffers=broadcast_buffers,
            find_unused_parameters=True, device_ids=device_ids, **kwargs)
        self._learning = [p for p in module.parameters() if p.requires_grad]
        self._reached: Optional[set] = None  # in an exchanging pass
        for parameter in self._learning:
            parameter.register_post_accumulate_grad_hook(self._note)
        module.register_forward_hook(self._reach_all)

    def _note(self, parameter: nn.Parameter) -> None:
        if self._reached is not None:
            self._reached.add(parameter)

    @torch.compiler.disable
    def _reach_all(self, module: nn.Module, args: Any, output: Any) -> Any:
        # The exchanging pass returns nothing: its losses are in the pass.
        if self._reached is None or not self.require_backward_grad_sync:  # or they accumulate
            return output
        self._waits = True
        return _AllReached.apply(*self._learning)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """The last pass of a step, forward and backward: gradients become means over ranks."""
        self._reached, self._waits = set(), False
        yield
        missing = [p for p in self._learning if p not in self._reached]
        if self._waits and missing:
            _AllReached.apply(*missing).backward()
        self._reached = None

    @torch.compiler.disable(recursive=False)  # as the segmentor's own
    def train_step(self, data: Dict[str, dict], optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        """As :meth:`AdaptationSegmentor.train_step`, with one exchange of gradients a step."""
        return self.module.train_step(data, optim_wrapper, model=self)


class _AllReached(torch.autograd.Function):
    """A scalar that depends on tensors, none of which gets a gradient from it.

    Its backward pass runs the hooks of these tensors, by which DDP learns that they are complete.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.number = len(tensors)
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        return (None, ) * ctx.number


def unwrapped(model: nn.Module) -> Any:
    """A model without the wrapper that distributes it, if it has one."""
    return model.module if is_model_wrapper(model) else model
