from typing import Dict, List, Tuple

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.batch_statistics import target_last

from .term import Term, View, frozen


@MODELS.register_module()
class Adversary(Term):
    r"""Structure at the output level, Equation 2: a game with D on the softmax of both domains.

    With D's logits :math:`d`, source labelled 1 and target 0, means over batch, height and width,
    the discriminator minimises

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

    It logs how often D is right on each domain, ``acc_source`` and ``acc_target``, in percent.

    Args:
        discriminator (dict): Config of D, e.g. an ``ASPPDiscriminator``.
        mode (str): One of the three above.
        loss_weight (float): :math:`\lambda_{adv}`, section 4.2. It weighs only the segmentor's
            side: the discriminator's own loss is never scaled.
        size (str): Whether D sees the softmax of the ``logits`` at their own stride or of logits
            resized to the ``image``, as in [14].
        **kwargs: As in :class:`Term`.
    """

    heads = ('decode_head', )
    modes = ('non_saturating', 'minimax', 'least_squares')

    def __init__(self,
                 discriminator: dict,
                 mode: str = 'non_saturating',
                 loss_weight: float = 1e-3,
                 size: str = 'logits',
                 **kwargs) -> None:
        super().__init__(**kwargs)
        for key, value, choices in (('mode', mode, self.modes), ('size', size, ('logits', 'image'))):
            if value not in choices:
                raise InputError(f'{key} of an Adversary is {value!r}: choose one of '
                                 f'{", ".join(choices)}')
        self.discriminator = MODELS.build(
            discriminator, default_args=dict(num_classes=self.num_classes))
        self.mode = mode
        self.loss_weight = loss_weight
        self.size = size

    @property
    def shared(self) -> List[nn.Module]:
        return []  # D sees both domains in the source's pass

    @property
    def pulls_source(self) -> bool:
        """Whether the segmentor is trained through the source's predictions, too."""
        return self.mode == 'minimax'

    def target_loss(self, view: View) -> Tuple[Dict[str, Tensor], Tensor]:
        softmax = self._look(view)
        loss = self.target_game(self._frozen_discriminator(softmax, 'target'))
        return dict(loss_target=loss), softmax.detach()

    def source_loss(self, view: View, kept: Tensor) -> Dict[str, Tensor]:
        softmax = self._look(view)
        losses = {}
        if self.pulls_source:
            losses['loss_source'] = self.source_game(
                self._frozen_discriminator(softmax, 'source'))
        d_source = self.discriminator(softmax.detach())
        d_target = self.discriminator(kept)
        losses['loss_discriminator'] = self.discriminator_loss(d_source, d_target)
        losses['acc_source'], losses['acc_target'] = self.accuracy(d_source, d_target)
        return losses

    def _look(self, view: View) -> Tensor:
        return view.logits(*self.heads, size=self.size).softmax(dim=1)

    def _frozen_discriminator(self, softmax: Tensor, domain: str) -> Tensor:
        # D's own loss shows it the source first; a game that pulls both domains does so, too.
        pair = [self.discriminator] if self.pulls_source else []
        with target_last(domain, *pair):
            return frozen(self.discriminator, softmax)

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

    def target_game(self, target: Tensor) -> Tensor:
        """What the segmentor pays, a scalar, for logits (N, 1, H, W) of target predictions."""
        if self.mode == 'least_squares':
            loss = (target - 1).square().mean()
        elif self.mode == 'minimax':
            loss = -F.softplus(target).mean()
        else:
            loss = F.softplus(-target).mean()
        return self.loss_weight * loss

    def source_game(self, source: Tensor) -> Tensor:
        """What the segmentor pays for source logits; only where :attr:`pulls_source`."""
        return self.loss_weight * -F.softplus(-source).mean()
