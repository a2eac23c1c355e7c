from math import log2
from typing import Any, Dict, Tuple

from mmseg.registry import MODELS
from torch import Tensor

from .term import Term, View

from structseg_mmseg.bounds import Weight


def self_information(softmax: Tensor) -> Tensor:
    r""":math:`-p_c \log_2 p_c / \log_2 C` of ADVENT (Vu et al., CVPR 2019), (N, C, H, W).

    Its sum over the classes is a pixel's entropy, of [0, 1].
    """
    # Where p is 0 the product is 0, not NaN: 1e-30 as in ADVENT's code.
    return -softmax * (softmax + 1e-30).log2() / log2(softmax.shape[1])


@MODELS.register_module()
class MinEntropy(Term):
    r"""MinEnt of ADVENT (Vu et al., CVPR 2019): predictions on the target are to be certain.

    .. math:: \lambda_{ent} \, \mathbb{E}_T \Bigl[ -\frac{1}{\log_2 C} \sum_c p_c \log_2 p_c \Bigr]

    The mean is over batch and pixels, of logits resized to the image.

    Args:
        loss_weight (float): :math:`\lambda_{ent}`.
        head (str): Whose logits: ``decode_head`` or ``auxiliary_head``.
        **kwargs: As in :class:`Term`.
    """

    def __init__(self, loss_weight: Weight = 1e-3, head: str = 'decode_head', **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_weight = loss_weight
        self.heads = (head, )

    def target_loss(self, view: View) -> Tuple[Dict[str, Tensor], Any]:
        return dict(loss_target=self.loss(view.logits(self.heads[0], size='image'))), None

    def loss(self, logits: Tensor) -> Tensor:
        """A scalar from logits (N, C, H, W)."""
        return self.loss_weight * self_information(logits.softmax(dim=1)).sum(dim=1).mean()
