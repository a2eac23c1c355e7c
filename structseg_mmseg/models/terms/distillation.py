from typing import Dict, List

import torch
import torch.nn.functional as F
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Weight
from structseg_mmseg.models.adaptation import Batch, View, frozen_copy
from structseg_mmseg.models.backbones import TwoScales

from .term import Term


@MODELS.register_module()
class Distillation(Term):
    r"""ROAD (Chen, Li and Van Gool, CVPR 2018), its first part: E keeps what ImageNet taught it.

    .. math:: \lambda \, \mathrm{mean} \, (E(I_t) - E_0(I_t))^2

    over the positions and channels of the last features on the target, where :math:`E_0` is a
    frozen copy of E as training starts, after pretrained weights or ``load_from`` are loaded, and
    always in evaluation mode. Checkpoints hold it, so that a resumed run has the same.

    Args:
        loss_weight (float): :math:`\lambda`.
        **kwargs: As in :class:`Term`.
    """

    passes = ('target', )
    copied: Tensor

    def __init__(self, loss_weight: Weight = 0.1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_weight = loss_weight
        self.register_buffer('copied', torch.tensor(False))

    @property
    def shared(self) -> List[nn.Module]:
        return []  # the copy's statistics are frozen

    def setup(self, segmentor: EncoderDecoder) -> None:
        """Make room for the copy of the encoder."""
        super().setup(segmentor)
        self.encoder = frozen_copy(self._of_last_features)

    @property
    def _of_last_features(self) -> nn.Module:
        """E, of whose two scales only one makes its last features."""
        encoder = self.segmentor.backbone
        return encoder.context if isinstance(encoder, TwoScales) else encoder

    def train(self, mode: bool = True) -> 'Distillation':
        """Set the mode of all but the frozen encoder."""
        super().train(mode)
        self.encoder.eval()
        return self

    def prepare(self, batches: Dict[str, Batch]) -> None:
        """Copy the encoder's weights, once in a training."""
        if not self.copied:
            self.encoder.load_state_dict(self._of_last_features.state_dict())
            self.copied.fill_(True)

    def loss(self, view: View) -> Dict[str, Tensor]:
        with torch.no_grad():
            taught = self.encoder(view.inputs)[-1]
        return dict(loss_target=self.loss_weight * F.mse_loss(view.features()[-1], taught))
