from typing import Dict

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Weight
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import View

from .term import Term


@MODELS.register_module()
class Reconstruction(Term):
    r"""Structure at the feature level, Equation 1: G reconstructs the image from E's features.

    .. math:: \lambda_{rec} \, \bigl( L_1(G \circ E(I_s), I_s) + L_1(G \circ E(I_t), I_t) \bigr)

    The norm is the sum over an image's pixels and channels (Equation 2 writes its mean as
    :math:`1/HW`, Equation 1 has none); the loss of a batch is the mean over its images, scaled to
    [-1, 1]. It is a branch of its own: the encoder E gets the mean of its and the segmentation's
    gradients.

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

    def loss(self, view: View) -> Dict[str, Tensor]:
        height, width = view.inputs.shape[-2:]
        # The features may reach past the last row and column: see ReconstructionDecoder.
        reconstruction = self.decoder(view.features(self.branch))[..., :height, :width]
        if reconstruction.shape != view.inputs.shape:
            raise InputError(
                f'the reconstruction has shape {tuple(reconstruction.shape)} where the images have '
                f'{tuple(view.inputs.shape)}: set decoder.stride of the term to the stride of the '
                'encoder')
        view.show('reconstruction', reconstruction, -1, 1)
        loss = self.distance(reconstruction, view.image / 127.5 - 1)
        return {f'loss_{view.name}': self.loss_weight / len(reconstruction) * loss}

    @staticmethod
    def distance(reconstruction: Tensor, image: Tensor) -> Tensor:
        """Sum of the absolute differences of two batches of images (N, 3, H, W) in [-1, 1]."""
        return F.l1_loss(reconstruction, image, reduction='sum')
