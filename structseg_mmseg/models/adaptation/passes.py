from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from .batch import Batch
from .branches import Branches


@dataclass
class Pass:
    """One forward and backward pass of the student network, as a value.

    A distributed wrapper hands it through as it is, so that what a pass leaves here arrives.

    Args:
        name (str): ``source``, ``target`` or the name of a batch that a term has added.
        batch (Batch): Its images.
        branches (Branches): Its branches at the encoder.
        notes (dict[str, dict]): What each term keeps, without a graph, for later passes of a step.
        pictures (dict, optional): Where views put what is to be drawn; None draws nothing.
        losses (dict[str, Tensor]): What the pass gave: scalars; those with ``loss`` in their names
            are to be minimised.
    """

    name: str
    batch: Batch
    branches: Branches
    notes: Dict[str, Dict[str, Any]]
    pictures: Optional[Dict[str, Tensor]] = None
    losses: Dict[str, Tensor] = field(default_factory=dict)

    @torch.compiler.disable
    def backward(self, loss: Tensor, log: Dict[str, Tensor],
                 optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        """Backpropagate the sum of its losses.

        Args:
            loss (Tensor): The sum.
            log (dict[str, Tensor]): What is logged of the losses.
            optim_wrapper (OptimWrapper): The optimizers.

        Returns:
            dict[str, Tensor]: The log, with the norms of the gradients at the encoder.
        """
        scale: List[Tensor] = []  # by which accumulation and mixed precision multiply the loss
        loss.register_hook(scale.append)
        optim_wrapper.backward(loss)
        return {**log, **{f'{self.name}.grad_norm_{branch}': norm / scale[0]
                          for branch, norm in self.branches.norms().items()}}
