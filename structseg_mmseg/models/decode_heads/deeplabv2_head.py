from functools import reduce
from operator import add
from typing import Sequence, Tuple

import torch.nn as nn
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count, Ratio


@MODELS.register_module()
class DeepLabV2Head(BaseDecodeHead):
    """S of Figure 1, the head of DeepLabv2 (reference [1]): dilated 3x3 classifiers, summed.

    Args:
        in_channels (int): Width of the features.
        dilations (Sequence[int]): Rates of the classifiers.
        **kwargs: As in mmseg's ``BaseDecodeHead``, less ``channels``: there is no layer between
            the features and the classifiers.
    """

    def __init__(self,
                 in_channels: Count,
                 dilations: Sequence[Count] = (6, 12, 18, 24),
                 dropout_ratio: Ratio = 0,
                 init_cfg: dict = dict(type='Normal', layer='Conv2d', std=0.01),
                 **kwargs) -> None:
        super().__init__(
            in_channels, in_channels, dropout_ratio=dropout_ratio, init_cfg=init_cfg, **kwargs)
        self.conv_seg = nn.ModuleList(
            nn.Conv2d(self.in_channels, self.out_channels, 3, padding=rate, dilation=rate)
            for rate in dilations)

    def forward(self, inputs: Tuple[Tensor, ...]) -> Tensor:
        """Logits (N, num_classes, h, w) at the stride of the features."""
        return self.cls_seg(self._transform_inputs(inputs))

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Classify each pixel: the sum of what the classifiers say."""
        if self.dropout is not None:
            feat = self.dropout(feat)
        return reduce(add, (classifier(feat) for classifier in self.conv_seg))
