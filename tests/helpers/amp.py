"""Mixed precision without a GPU."""
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Union

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(AmpOptimWrapper):
    """``AmpOptimWrapper`` on a CPU, where mmengine's refuses to be built.

    Args:
        loss_scale (str or float or dict): As in ``AmpOptimWrapper``.
        dtype (str, optional): ``bfloat16``, which is the default, or ``float16``.
        **kwargs: As in ``OptimWrapper``.
    """

    def __init__(self,
                 loss_scale: Union[str, float, dict] = 'dynamic',
                 dtype: Optional[str] = None,
                 **kwargs) -> None:
        OptimWrapper.__init__(self, **kwargs)
        fixed = isinstance(loss_scale, float)
        self._scale_update_param = loss_scale if fixed else None
        options: Any = dict(init_scale=loss_scale) if fixed else loss_scale
        self.loss_scaler = torch.amp.GradScaler('cpu', **({} if options == 'dynamic' else options))
        self.cast_dtype = getattr(torch, dtype or 'bfloat16')

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """As ``AmpOptimWrapper``'s."""
        with OptimWrapper.optim_context(self, model), torch.autocast('cpu', self.cast_dtype):
            yield
