import math
from typing import Optional, Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count, Natural
from structseg_mmseg.errors import InputError

LEAKY = dict(type='LeakyReLU')


class ResidualBlock(BaseModule):
    """RESBLK-(N, K3, S1) of reference [8]: two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int, norm_cfg: Optional[dict]) -> None:
        super().__init__()
        conv = dict(kernel_size=3, padding=1, norm_cfg=norm_cfg)
        # Not in place, as its input can be a view.
        self.conv1 = ConvModule(channels, channels, act_cfg=LEAKY, inplace=False, **conv)
        self.conv2 = ConvModule(channels, channels, act_cfg=None, **conv)
        for module in self.modules():
            if isinstance(module, nn.InstanceNorm2d):
                module.register_forward_hook(_contiguous_gradient)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


def _contiguous_gradient(norm: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """Spare instance normalisation a gradient whose channels lie together in memory.

    Of one image, its backward pass misreads it and gives a wrong gradient without a word (torch
    2.13 on a CPU). A gradient of one dimension is contiguous, and the output is, so this copies
    no more than it must; hooks on gradients would not compile (torch 2.11).
    """
    return output.flatten().view_as(output)


@MODELS.register_module()
class ReconstructionDecoder(BaseModule):
    """G of Figure 1: the image from the encoder's features, for both domains.

    The generator of UNIT (reference [8], NIPS 2017), every layer shared: residual blocks, then
    transposed convolutions that halve the width as they double the size, then a 1x1 one and tanh.
    The encoder is UNIT's no more, so a 1x1 projection comes first and there are as many doublings
    as its stride requires (three at stride 8, where UNIT has two).

    Every doubling puts input ``i`` at output ``2i``, the inverse of a stride-2 convolution with
    symmetric padding, so cropping the last row and column restores an input's size exactly.

    Args:
        in_channels (int): Width of the features; 2048 at res5c.
        stride (int): Stride of the features, a power of two.
        channels (int): Width of the residual blocks; 512 in [8].
        num_blocks (int): Residual blocks; 4 in [8].
        in_index (int): Which of the encoder's outputs to decode.
        norm_cfg (dict, optional): Normalisation inside the residual blocks; instance
            normalisation in [8].
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    def __init__(self,
                 in_channels: Count,
                 stride: Count,
                 channels: Count = 512,
                 num_blocks: Natural = 4,
                 in_index: int = -1,
                 norm_cfg: Optional[dict] = dict(type='IN'),
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        doublings = int(math.log2(stride)) if stride > 0 else 0
        if 2**doublings != stride or channels % stride:
            raise InputError(f'decoder.stride is {stride}: it must be a power of two that '
                             f'divides decoder.channels ({channels})')
        self.in_index = in_index
        layers = [ConvModule(in_channels, channels, 1, act_cfg=LEAKY)]
        layers += [ResidualBlock(channels, norm_cfg) for _ in range(num_blocks)]
        for _ in range(doublings):
            layers.append(ConvModule(
                channels, channels // 2, 3, stride=2, padding=1,
                conv_cfg=dict(type='deconv', output_padding=1), act_cfg=LEAKY))
            channels //= 2
        layers.append(ConvModule(channels, 3, 1, act_cfg=dict(type='Tanh')))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode.

        Args:
            inputs (Sequence[Tensor]): The encoder's outputs; the one at ``in_index`` is
                (N, in_channels, h, w).

        Returns:
            Tensor: Images in [-1, 1], (N, 3, stride * h, stride * w).
        """
        return self.layers(inputs[self.in_index])
