import torch.nn as nn
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class ReconstructionLoss(nn.Module):
    r""":math:`\lambda_{rec} L_1(G \circ E(I), I)` of Equation 1.

    The norm is the sum over an image's pixels and channels (Equation 2 writes its mean as
    :math:`1/HW`, Equation 1 has none); a batch counts as the mean over its images.

    Args:
        loss_weight (float): :math:`\lambda_{rec}`, section 4.2.
    """

    def __init__(self, loss_weight: float = 1e-5) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """A scalar from two batches of images (N, 3, H, W), both in [-1, 1]."""
        loss = F.l1_loss(reconstruction, image, reduction='sum')
        return self.loss_weight / len(image) * loss
