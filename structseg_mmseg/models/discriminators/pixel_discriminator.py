from typing import Optional, Sequence

import torch.nn as nn
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count, Ratio


@MODELS.register_module()
class PixelDiscriminator(BaseModule):
    """Which domain does each unit of a map come from, by itself: 1x1 convolutions, no context.

    It serves references [6] and [7]. Their two scores and cross-entropy are one logit, the
    scores' difference, and its sigmoid, which is part of the loss.

    Args:
        in_channels (int): Number of channels of its input.
        channels (Sequence[int]): Widths of the hidden layers: 512, 256 for logits and 1024, 512
            for fc7 in [6].
        dropout (float): Probability that a hidden channel is dropped, 0.5 in [6].
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    def __init__(self,
                 in_channels: Count,
                 channels: Sequence[Count] = (1024, 1024),
                 dropout: Ratio = 0,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        layers = []
        for width in channels:
            layers += [nn.Conv2d(in_channels, width, 1), nn.ReLU(), nn.Dropout2d(dropout)]
            in_channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(in_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 1, H, W), positive for source, from a map (N, in_channels, H, W)."""
        return self.layers(x)
