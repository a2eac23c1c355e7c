from typing import Optional

import torch.nn as nn
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count
from structseg_mmseg.errors import InputError


@MODELS.register_module()
class FCDiscriminator(BaseModule):
    """The discriminator of reference [14] (section 4): which domain is each patch of a map from?

    Five 4x4 convolutions of stride 2 with biases, LeakyReLU of slope 0.2 behind all but the last,
    no normalisation; so its map is 32 times smaller. The paper's upsampling behind them is not in
    the released code. The sigmoid is part of the loss.

    Args:
        in_channels (int): Number of channels of its input.
        channels (int): Width of the first layer; the next three double it.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    stride = 32

    def __init__(self, in_channels: Count, channels: Count = 64,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        layers = []
        for width in (channels, 2 * channels, 4 * channels, 8 * channels):
            layers += [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            in_channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(in_channels, 1, 4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 1, H // 32, W // 32), positive for source, from (N, in_channels, H, W)."""
        height, width = x.shape[2:]
        if min(height, width) < self.stride:
            raise InputError(
                f'a map of {width}x{height} leaves an FCDiscriminator nothing, which needs '
                f"{self.stride}x{self.stride}: set size='image' of its Adversary, or train on "
                'larger images')
        return self.layers(x)
