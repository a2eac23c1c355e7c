from typing import Dict, Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Natural, Ratio, Weight
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import View
from structseg_mmseg.models.adaptation.view import at_least_float32

from .distillation import Distillation


@MODELS.register_module()
class FeatureDistance(Distillation):
    r"""DAFormer (Hoyer et al., CVPR 2022): what ImageNet taught E of things, it keeps.

    .. math:: L = \lambda \, \mathrm{mean}_{i \in M} \, \| E(I_s)_i - E_0(I_s)_i \|_2

    over the positions of the last features on the source that M has, on all ranks: those where one
    of the thing classes fills at least a share r of the pixels. The norm is over channels, and
    :math:`E_0` is a frozen copy as in :class:`Distillation`. Where no position is left the loss is
    0, not the mean of nothing.

    Args:
        classes (Sequence[int]): The things; of Cityscapes' 19 classes light, sign, person, rider,
            car, truck, bus, train, motorcycle and bicycle.
        loss_weight (float): :math:`\lambda`, 0.005 in DAFormer.
        min_ratio (float): r, 0.75 in DAFormer.
        **kwargs: As in :class:`Term`.
    """

    passes = ('source', )

    def __init__(self,
                 classes: Sequence[Natural] = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18),
                 loss_weight: Weight = 0.005,
                 min_ratio: Ratio = 0.75,
                 **kwargs) -> None:
        super().__init__(loss_weight=loss_weight, **kwargs)
        if max(classes) >= self.num_classes:
            raise InputError(f'classes of a FeatureDistance are {list(classes)} where the '
                             f'segmentation has {self.num_classes}: name some of these')
        self.classes = classes
        self.min_ratio = min_ratio

    def loss(self, view: View) -> Dict[str, Tensor]:
        features, labels = at_least_float32(view.features()[-1]), view.batch.labels
        assert labels is not None
        with torch.no_grad():
            taught = at_least_float32(self.encoder(view.inputs)[-1])
            mask = self.things(labels, features)
            number = mask.sum()
            all_reduce(number, 'sum')
        distance = (mask * (features - taught).norm(dim=1)).sum() * get_world_size()
        return dict(loss_source=self.loss_weight * distance / number.clamp(min=1))

    def things(self, labels: Tensor, features: Tensor) -> Tensor:
        """1 at the positions of features (N, C, h, w) that a thing fills, else 0, (N, h, w)."""
        things = torch.stack([labels == index for index in self.classes], dim=1)
        # Where the stride divides the image it is the average pooling of DAFormer.
        height, width = features.shape[-2:]
        shares = F.adaptive_avg_pool2d(things.to(features), (height, width))
        return (shares.amax(dim=1) >= self.min_ratio).to(features)
