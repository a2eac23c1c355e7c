import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count, Natural
from structseg_mmseg.errors import InputError

# The initialisation of CycleGAN's networks.
NORMAL = dict(type='Normal', layer=['Conv2d', 'ConvTranspose2d'], std=0.02)
NORMED = dict(norm_cfg=dict(type='IN'))


class _Block(nn.Module):
    """Two 3x3 convolutions beside the identity, borders reflected."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = dict(kernel_size=3, padding=1, padding_mode='reflect', **NORMED)
        self.layers = nn.Sequential(
            ConvModule(channels, channels, **conv),
            ConvModule(channels, channels, act_cfg=None, **conv))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


@MODELS.register_module()
class ResNetGenerator(BaseModule):
    """The generator of CycleGAN (Zhu, Park, Isola, Efros, ICCV 2017, appendix), by its names:

    c7s1-64, d128, d256, R256 for each block, u128, u64, c7s1-3 and tanh, with instance
    normalisation and ReLU behind all but the last.

    Args:
        channels (int): Width of the first layer; 64 there.
        num_blocks (int): Residual blocks; 9 there, for images of 256 pixels and more.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    stride = 4

    def __init__(self, channels: Count = 64, num_blocks: Natural = 9,
                 init_cfg: dict = NORMAL) -> None:
        super().__init__(init_cfg)
        border = dict(padding=3, padding_mode='reflect')
        resize = dict(kernel_size=3, stride=2, padding=1, **NORMED)
        up = dict(conv_cfg=dict(type='deconv', output_padding=1), **resize)
        self.layers = nn.Sequential(
            ConvModule(3, channels, 7, **border, **NORMED),
            ConvModule(channels, 2 * channels, **resize),
            ConvModule(2 * channels, 4 * channels, **resize),
            *(_Block(4 * channels) for _ in range(num_blocks)),
            ConvModule(4 * channels, 2 * channels, **up),
            ConvModule(2 * channels, channels, **up),
            ConvModule(channels, 3, 7, **border, act_cfg=dict(type='Tanh')))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] from such; 4 must divide H and W."""
        height, width = x.shape[2:]
        if height % self.stride or width % self.stride:
            raise InputError(
                f'a ResNetGenerator would give images of {width}x{height} another size: train on '
                f'images or crops whose sides {self.stride} divides')
        return self.layers(x)
