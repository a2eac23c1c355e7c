from typing import Any, Dict, Tuple

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Weight
from structseg_mmseg.errors import InputError

from .term import Term, View


@MODELS.register_module()
class Reconstruction(Term):
    r"""Structure at the feature level, Equation 1: G gives the image back from E's features.

    .. math:: \lambda_{rec} \, \bigl( L_1(G \circ E(I_s), I_s) + L_1(G \circ E(I_t), I_t) \bigr)

    The norm is the sum over an image's pixels and channels (Equation 2 writes its mean as
    :math:`1/HW`, Equation 1 has none); a batch counts as the mean over its images, which lie in
    [-1, 1]. It is a branch of its own: E gets the mean of its gradient and the segmentation's.

    Args:
        decoder (dict): Config of G, e.g. a ``ReconstructionDecoder``.
        loss_weight (float): :math:`\lambda_{rec}`, section 4.2.
        **kwargs: As in :class:`Term`.
    """

    branch = 'rec'

    def __init__(self, decoder: dict, loss_weight: Weight = 1e-5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.decoder = MODELS.build(decoder)
        self.loss_weight = loss_weight

    def target_loss(self, view: View) -> Tuple[Dict[str, Tensor], Any]:
        return dict(loss_target=self._loss_of(view)), None

    def source_loss(self, view: View, kept: Any) -> Dict[str, Tensor]:
        return dict(loss_source=self._loss_of(view))

    def _loss_of(self, view: View) -> Tensor:
        height, width = view.inputs.shape[-2:]
        # The features may reach past the last row and column: see ReconstructionDecoder.
        reconstruction = self.decoder(view.features(self.branch))[..., :height, :width]
        if reconstruction.shape != view.inputs.shape:
            raise InputError(
                f'the reconstruction has shape {tuple(reconstruction.shape)} where the images have '
                f'{tuple(view.inputs.shape)}: set decoder.stride of the term to the stride of the '
                'encoder')
        view.show('reconstruction', reconstruction, -1, 1)
        return self.loss(reconstruction, view.image / 127.5 - 1)

    def loss(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """One domain's term, a scalar, from two batches of images (N, 3, H, W) in [-1, 1]."""
        loss = F.l1_loss(reconstruction, image, reduction='sum')
        return self.loss_weight / len(image) * loss
