from typing import Dict, List

import torch
from torch import Tensor


class Branches:
    """The branches at the encoder in one pass: their gradients are averaged (Equation 3).

    "The parameters of the encoding network E is updated by averaging the gradients from each
    branch" (end of section 3). The branches are segmentation (``seg``), with the adversarial
    gradient that comes through it, and those that terms name.

    Args:
        number (int): How many branches the model has; 0 changes and measures nothing.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._norms: Dict[str, List[Tensor]] = {}

    @torch.compiler.disable  # hooks with side effects
    def split(self, features: List[Tensor], branch: str) -> List[Tensor]:
        """Features whose gradient reaches the encoder as the branch's share of the mean.

        Args:
            features (list[Tensor]): The encoder's outputs.
            branch (str): Name of the branch.
        """
        if not self.number:
            return features
        norms = self._norms.setdefault(branch, [])

        def average(gradient: Tensor) -> Tensor:
            if self.number > 1:
                gradient = gradient / self.number
            # Not in half precision, where its square overflows.
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            norms.append(torch.linalg.vector_norm(gradient, dtype=dtype))
            return gradient

        shares = []
        for feature in features:
            share = feature.view_as(feature)
            if share.requires_grad:
                share.register_hook(average)
            shares.append(share)
        return shares

    def norms(self) -> Dict[str, Tensor]:
        """Norm of the gradient that each branch has sent to the encoder in the backward pass."""
        return {branch: torch.stack(norms).norm() for branch, norms in self._norms.items() if norms}
