from typing import Optional, Sequence

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count

LEAKY = dict(type='LeakyReLU', negative_slope=0.2)


@MODELS.register_module()
class ASPPDiscriminator(BaseModule):
    """The discriminator of section 4.2: which domain does each unit of a softmax map come from?

    Three layers, fully convolutional: a 3x3 convolution, atrous spatial pyramid pooling (3x3
    convolutions side by side, concatenated, after reference [17]), and a 1x1 convolution. All keep
    the size of the map. The sigmoid is part of the loss.

    Args:
        in_channels (int): Number of channels of its input.
        channels (int): Width of the first layer and of each dilated convolution; 128 in [17].
        dilations (Sequence[int]): Rates of the pyramid.
        first_layer (bool): Whether it starts with the 3x3 convolution, which [17] lacks.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    def __init__(self,
                 in_channels: Count,
                 channels: Count = 128,
                 dilations: Sequence[Count] = (1, 2, 3, 4),
                 first_layer: bool = True,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Identity()
        if first_layer:
            self.conv = ConvModule(in_channels, channels, 3, padding=1, act_cfg=LEAKY)
            in_channels = channels
        self.aspp = nn.ModuleList(
            ConvModule(in_channels, channels, 3, padding=rate, dilation=rate, act_cfg=LEAKY)
            for rate in dilations)
        self.classify = nn.Conv2d(len(dilations) * channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 1, H, W), positive for source, from a map (N, in_channels, H, W)."""
        x = self.conv(x)
        return self.classify(torch.cat([branch(x) for branch in self.aspp], dim=1))
