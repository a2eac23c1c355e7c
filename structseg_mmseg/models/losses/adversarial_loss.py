from typing import Tuple

import torch.nn as nn
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.errors import InputError


@MODELS.register_module()
class AdversarialLoss(nn.Module):
    r"""The output-level game, Equation 2, on the discriminator's logits :math:`d`.

    Source is labelled 1, target 0; means run over batch, height and width. The discriminator
    minimises

    ``non_saturating``, ``minimax``
        :math:`-\mathbb{E}_S[\log\sigma(d)] - \mathbb{E}_T[\log(1-\sigma(d))]` (minus Equation 2).
    ``least_squares``
        :math:`\mathbb{E}_S[(d-1)^2] + \mathbb{E}_T[d^2]`.

    Encoder and segmentation head minimise ``loss_weight`` times

    ``non_saturating``
        :math:`-\mathbb{E}_T[\log\sigma(d)]`: target passed off as source, as reference [14] trains.
    ``minimax``
        Equation 2 as it is written, the source's term included.
    ``least_squares``
        :math:`\mathbb{E}_T[(d-1)^2]`.

    Args:
        mode (str): One of the three above.
        loss_weight (float): :math:`\lambda_{adv}`, section 4.2. It weighs only the segmentor's
            side: the discriminator's own loss is never scaled.
    """

    modes = ('non_saturating', 'minimax', 'least_squares')

    def __init__(self, mode: str = 'non_saturating', loss_weight: float = 1e-3) -> None:
        super().__init__()
        if mode not in self.modes:
            raise InputError(f'loss_adv.mode is {mode!r}: choose one of {", ".join(self.modes)}')
        self.mode = mode
        self.loss_weight = loss_weight

    @property
    def pulls_source(self) -> bool:
        """Whether the segmentor is trained through the source's predictions, too."""
        return self.mode == 'minimax'

    def discriminator_loss(self, source: Tensor, target: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from its logits on both domains, (N, 1, H, W)."""
        if self.mode == 'least_squares':
            return (source - 1).square().mean() + target.square().mean()
        # -log sigmoid(d) = softplus(-d) and -log(1 - sigmoid(d)) = softplus(d)
        return F.softplus(-source).mean() + F.softplus(target).mean()

    def accuracy(self, source: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
        """How often the discriminator is right on each domain, in percent."""
        boundary = 0.5 if self.mode == 'least_squares' else 0
        return tuple(right.float().mean() * 100 for right in (source > boundary, target < boundary))

    def target_loss(self, target: Tensor) -> Tensor:
        """What the segmentor pays, a scalar, for logits (N, 1, H, W) of target predictions."""
        if self.mode == 'least_squares':
            loss = (target - 1).square().mean()
        elif self.mode == 'minimax':
            loss = -F.softplus(target).mean()
        else:
            loss = F.softplus(-target).mean()
        return self.loss_weight * loss

    def source_loss(self, source: Tensor) -> Tensor:
        """What the segmentor pays for source logits; only where :attr:`pulls_source`."""
        return self.loss_weight * -F.softplus(-source).mean()
