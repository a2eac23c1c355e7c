from typing import Dict

from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Weight
from structseg_mmseg.models.adaptation import View
from structseg_mmseg.models.adaptation.entropy import self_information

from .term import Term


@MODELS.register_module()
class MinEntropy(Term):
    r"""MinEnt of ADVENT (Vu et al., CVPR 2019): certain predictions on the target.

    .. math:: \lambda_{ent} \, \mathbb{E}_T \Bigl[ -\frac{1}{\log_2 C} \sum_c p_c \log_2 p_c \Bigr]

    The mean is over batch and pixels, of logits resized to the image.

    Args:
        loss_weight (float): :math:`\lambda_{ent}`.
        head (str): Whose logits: ``decode_head`` or ``auxiliary_head``.
        **kwargs: As in :class:`Term`.
    """

    passes = ('target', )

    def __init__(self, loss_weight: Weight = 1e-3, head: str = 'decode_head', **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_weight = loss_weight
        self.heads = (head, )

    def loss(self, view: View) -> Dict[str, Tensor]:
        softmax = view.logits(self.heads[0], size='image').softmax(dim=1)
        entropy = self_information(softmax).sum(dim=1).mean()
        return dict(loss_target=self.loss_weight * entropy)
