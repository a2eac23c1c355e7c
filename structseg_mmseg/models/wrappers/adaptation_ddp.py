from typing import Any, Dict, List, Optional

import torch
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS  # where the runner looks the name up
from torch import Tensor, nn

from structseg_mmseg.errors import InputError


@MODEL_WRAPPERS.register_module()
class AdaptationDistributedDataParallel(MMDistributedDataParallel):
    """Distributed training of a segmentor that makes several passes in an iteration.

    The segmentor's own ``train_step`` runs, its passes through this wrapper, so that gradients are
    exchanged. Buffers are each rank's own: broadcasting them between two passes would change the
    statistics of batch normalisation under the graph.

    Args:
        module (nn.Module): An :class:`AdvReconSegmentor`.
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
            module=module, broadcast_buffers=broadcast_buffers, device_ids=device_ids, **kwargs)

    @torch.compiler.disable(recursive=False)  # as the segmentor's own
    def train_step(self, data: Dict[str, dict], optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        """As :meth:`AdvReconSegmentor.train_step`, with one exchange of gradients."""
        return self.module.train_step(data, optim_wrapper, model=self)


def unwrapped(model: nn.Module) -> Any:
    """A model without the wrapper that distributes it, if it has one."""
    return model.module if is_model_wrapper(model) else model
