from typing import Any, Dict, List, Tuple

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .term import Term, View

from structseg_mmseg.bounds import Weight
from structseg_mmseg.errors import InputError


@MODELS.register_module()
class Distillation(Term):
    r"""ROAD (Chen, Li and Van Gool, CVPR 2018), its first part: E keeps what ImageNet taught it.

    .. math:: \lambda \, \mathrm{mean} \, (E(I_t) - E_0(I_t))^2

    over the positions and channels of the last features on the target, where :math:`E_0` is a copy
    of E as it starts, from ImageNet's weights: frozen, and in evaluation mode always. It lies in
    checkpoints, under the term's name, so that a resumed run has the same.

    Args:
        encoder (dict): Config of :math:`E_0`: the model's ``backbone``, which starts from the same
            weights since both are loaded from the same.
        loss_weight (float): :math:`\lambda`.
        **kwargs: As in :class:`Term`.

    Raises:
        InputError: In training, if it gives features of another shape than E.
    """

    def __init__(self, encoder: dict, loss_weight: Weight = 0.1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.encoder = MODELS.build(encoder).requires_grad_(False)
        self.loss_weight = loss_weight

    @property
    def shared(self) -> List[nn.Module]:
        return []  # nothing in it takes statistics

    def train(self, mode: bool = True) -> 'Distillation':
        """Set the mode of all but the frozen encoder."""
        super().train(mode)
        self.encoder.eval()
        return self

    def target_loss(self, view: View) -> Tuple[Dict[str, Tensor], Any]:
        with torch.no_grad():
            taught = self.encoder(view.inputs)[-1]
        features = view.features()[-1]
        if features.shape != taught.shape:
            raise InputError(f'the encoder of Distillation gives features {tuple(taught.shape)} '
                             f'where E gives {tuple(features.shape)}: give it the config of '
                             'model.backbone')
        loss = F.mse_loss(features, taught)
        return dict(loss_target=self.loss_weight * loss), None
