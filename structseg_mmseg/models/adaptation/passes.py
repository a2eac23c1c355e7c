from dataclasses import dataclass, field
from typing import Any, Dict, Optional

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
        notes (dict[str, dict]): What each term keeps, without a graph, for later passes of the step.
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
