import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.translators.resnet_generator import NORMAL, NORMED


@MODELS.register_module()
class PatchDiscriminator(BaseModule):
    """The 70x70 PatchGAN of CycleGAN: is each patch of an image real?

    C64-C128-C256-C512 and a last convolution, all 4x4, the first three of stride 2, with instance
    normalisation behind all but the first and LeakyReLU of slope 0.2.

    Args:
        channels (int): Width of the first layer; 64 there.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    smallest = 24

    def __init__(self, channels: Count = 64, init_cfg: dict = NORMAL) -> None:
        super().__init__(init_cfg)
        leaky = dict(act_cfg=dict(type='LeakyReLU', negative_slope=0.2))
        self.layers = nn.Sequential(
            ConvModule(3, channels, 4, 2, 1, **leaky),
            ConvModule(channels, 2 * channels, 4, 2, 1, **NORMED, **leaky),
            ConvModule(2 * channels, 4 * channels, 4, 2, 1, **NORMED, **leaky),
            ConvModule(4 * channels, 8 * channels, 4, 1, 1, **NORMED, **leaky),
            nn.Conv2d(8 * channels, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 1, H // 8 - 2, W // 8 - 2), towards 1 for real, from (N, 3, H, W)."""
        height, width = x.shape[2:]
        if min(height, width) < self.smallest:
            raise InputError(
                f'images of {width}x{height} are too small for a PatchDiscriminator: train on '
                f'crops of {self.smallest}x{self.smallest} or more')
        return self.layers(x)
