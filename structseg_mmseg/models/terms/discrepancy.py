from typing import Dict

from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Weight
from structseg_mmseg.models.adaptation import View

from .term import Term


@MODELS.register_module()
class Discrepancy(Term):
    r"""Maximum classifier discrepancy (Saito et al., CVPR 2018): two heads on one encoder.

    .. math:: d(p_1, p_2) = \mathrm{mean} \, |p_1 - p_2|

    over batch, classes, height and width of the softmaxes of ``decode_head`` and
    ``auxiliary_head``, at the size of the image, on the target. The heads maximise it, to find
    target features far from the source's; the encoder minimises it. Both heads learn the source by
    cross-entropy: the second is an auxiliary head with the first's config and a loss weight of 1.

    The heads' gradient is always that of :math:`-d` and the encoder's that of :math:`+d`; a
    gradient that is reversed between them gives both in one pass. So in one step of all parts this
    is the form that the paper's supplement calls the gradient reversal layer, and with
    ``model.steps`` of the source and all parts (A), of both domains and the heads (B), of the
    target and the encoder (C, ``times=n``) it is the paper's algorithm of three steps.

    It logs ``d``; ``loss_target`` is the heads' side of it.

    Args:
        loss_weight (float): Of d, 1 in the paper.
        **kwargs: As in :class:`Term`.
    """

    passes = ('target', )
    heads = ('decode_head', 'auxiliary_head')

    def __init__(self, loss_weight: Weight = 1., **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_weight = loss_weight

    def loss(self, view: View) -> Dict[str, Tensor]:
        view = view.reversed()
        first, second = (view.logits(head, size='image').softmax(dim=1) for head in self.heads)
        d = (first - second).abs()
        view.show('discrepancy', d.sum(dim=1, keepdim=True), 0, 2)
        d = d.mean()
        return dict(loss_target=-self.loss_weight * d, d=d.detach())
