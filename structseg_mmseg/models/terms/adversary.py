from contextlib import nullcontext
from typing import ContextManager, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Percent, Weight
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import View, frozen
from structseg_mmseg.models.adaptation.batch_statistics import reference_order
from structseg_mmseg.models.adaptation.entropy import self_information
from structseg_mmseg.models.adaptation.view import at_least_float32

from .term import Term


@MODELS.register_module()
class Adversary(Term):
    r"""Structure at the output level, Equation 2: a game with D on the softmax of both domains.

    With D's logits :math:`d`, source labelled 1 and target 0, means over batch, height and width,
    the discriminator minimises

    ``non_saturating``, ``minimax``, ``confusion``
        :math:`-\mathbb{E}_S[\log\sigma(d)] - \mathbb{E}_T[\log(1-\sigma(d))]` (minus Equation 2).
    ``least_squares``
        :math:`\mathbb{E}_S[(d-1)^2] + \mathbb{E}_T[d^2]`.

    Encoder and segmentation head minimise ``loss_weight`` times

    ``non_saturating``
        :math:`-\mathbb{E}_T[\log\sigma(d)]`: target passed off as source, as reference [14] trains.
    ``minimax``
        Equation 2 as it is written, the source's term included.
    ``confusion``
        :math:`-\frac{1}{2} \mathbb{E}[\log\sigma(d) + \log(1-\sigma(d))]` on each domain: both
        half source, half target, as in reference [7].
    ``least_squares``
        :math:`\mathbb{E}_T[(d-1)^2]`.

    It logs D's accuracy on each domain, ``acc_source`` and ``acc_target``, in percent.

    Args:
        discriminator (dict): Config of D, e.g. an ``ASPPDiscriminator``; ``in_channels`` is the
            number of classes by default and must be set for features.
        mode (str): One of the four above.
        loss_weight (float): :math:`\lambda_{adv}`, section 4.2. It weighs only the segmentor's
            side: the discriminator's own loss is never scaled.
        size (str): Whether D sees the softmax of the ``logits`` at their own stride or of logits
            resized to the ``image``, as in [14]; likewise for its other inputs.
        of (str): D's input: ``softmax``, ``logits``, ``entropy`` (what each class contributes
            to a pixel's, see :func:`self_information`), all (N, C, h, w), or the last ``features``
            of E.
        head (str): Whose logits: ``decode_head`` or ``auxiliary_head``.
        ready_above (float, optional): For a step that waits for this term (``when``): the accuracy
            in percent that D must exceed, as the mean over its last 100 iterations and both
            domains; before the first, it counts as 50.
        **kwargs: As in :class:`Term`.
    """

    modes = ('non_saturating', 'minimax', 'least_squares', 'confusion')

    def __init__(self,
                 discriminator: dict,
                 mode: str = 'non_saturating',
                 loss_weight: Weight = 1e-3,
                 size: str = 'logits',
                 of: str = 'softmax',
                 head: str = 'decode_head',
                 ready_above: Optional[Percent] = None,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        for key, value, choices in (
                ('mode', mode, self.modes), ('size', size, ('logits', 'image')),
                ('of', of, ('softmax', 'logits', 'entropy', 'features')),
                ('head', head, ('decode_head', 'auxiliary_head'))):
            self._chosen(key, value, choices)
        if of == 'features' and 'in_channels' not in discriminator:
            raise InputError("an Adversary of='features' needs discriminator.in_channels: set it "
                             'to the width of the last features')
        self.discriminator = MODELS.build(
            discriminator, default_args=dict(in_channels=self.num_classes))
        self.mode = mode
        self.loss_weight = loss_weight
        self.size = size
        self.of = of
        self.heads = () if of == 'features' else (head, )
        self.ready_above = ready_above
        if ready_above is not None:  # in the state dict, so that resume is exact
            self.register_buffer('accuracies', torch.full((100, ), 50.))

    @property
    def ready(self) -> bool:  # type: ignore[override]  # it depends, and is not to be set
        """Whether D's accuracy exceeds ``ready_above``, as a mean over ranks."""
        if self.ready_above is None:
            return True
        accuracy = self.accuracies.mean()
        all_reduce(accuracy, 'mean')
        return bool(accuracy > self.ready_above)

    @property
    def shared(self) -> List[nn.Module]:
        return []  # D sees both domains in the source pass

    @property
    def pulls_source(self) -> bool:
        """Whether the segmentor is trained through the source's predictions, too."""
        return self.mode in ('minimax', 'confusion')

    def loss(self, view: View) -> Dict[str, Tensor]:
        if view.name == 'target':
            seen = self._input(view)
            view.notes['target'] = seen.detach()
            d_target = self._frozen_discriminator(seen, 'target')
            view.show(self._title, d_target, -2, 2)
            return dict(loss_target=self.target_game(d_target))
        if 'target' not in view.notes:  # the step has no pass on the target
            return {}
        seen = self._input(view)
        losses = {}
        if self.pulls_source:
            losses['loss_source'] = self.source_game(
                self._frozen_discriminator(seen, 'source'))
        d_source = at_least_float32(self.discriminator(seen.detach()))
        view.show(self._title, d_source, -2, 2)
        d_target = at_least_float32(self.discriminator(view.notes.pop('target')))
        losses['loss_discriminator'] = self.discriminator_loss(d_source, d_target)
        losses['acc_source'], losses['acc_target'] = self.accuracy(d_source, d_target)
        if self.ready_above is not None:
            now = (losses['acc_source'] + losses['acc_target']) / 2
            self.accuracies.copy_(torch.cat([self.accuracies[1:], now[None]]))
        return losses

    @property
    def _title(self) -> str:
        return 'discriminator' + (' (auxiliary)' if 'auxiliary_head' in self.heads else '')

    def _input(self, view: View) -> Tensor:
        if self.of == 'features':
            features = view.features()[-1]
            return view.at_image(features) if self.size == 'image' else features
        logits = view.logits(self.heads[0], size=self.size)
        if self.of == 'logits':
            return logits
        softmax = logits.softmax(dim=1)
        return softmax if self.of == 'softmax' else self_information(softmax)

    def _frozen_discriminator(self, seen: Tensor, domain: str) -> Tensor:
        # D's own loss sees the source first; so does a game that trains through both domains.
        order: ContextManager = nullcontext()
        if self.pulls_source:
            order = reference_order(
                domain, ('source', 'target'), ('target', 'source'), self.discriminator)
        with order:
            return at_least_float32(frozen(self.discriminator, seen))

    def discriminator_loss(self, source: Tensor, target: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from its logits on both domains, (N, 1, H, W)."""
        if self.mode == 'least_squares':
            return (source - 1).square().mean() + target.square().mean()
        # -log sigmoid(d) = softplus(-d) and -log(1 - sigmoid(d)) = softplus(d)
        return F.softplus(-source).mean() + F.softplus(target).mean()

    def accuracy(self, source: Tensor, target: Tensor) -> Tuple[Tensor, ...]:
        """The discriminator's accuracy on each domain, in percent."""
        boundary = 0.5 if self.mode == 'least_squares' else 0
        return tuple(right.float().mean() * 100 for right in (source > boundary, target < boundary))

    def target_game(self, target: Tensor) -> Tensor:
        """What the segmentor pays, a scalar, for logits (N, 1, H, W) of target predictions."""
        if self.mode == 'least_squares':
            loss = (target - 1).square().mean()
        elif self.mode == 'minimax':
            loss = -F.softplus(target).mean()
        elif self.mode == 'confusion':
            loss = (F.softplus(target).mean() + F.softplus(-target).mean()) / 2
        else:
            loss = F.softplus(-target).mean()
        return self.loss_weight * loss

    def source_game(self, source: Tensor) -> Tensor:
        """What the segmentor pays for source logits; only where :attr:`pulls_source`."""
        if self.mode == 'confusion':
            return self.target_game(source)
        return self.loss_weight * -F.softplus(-source).mean()
