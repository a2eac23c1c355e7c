from typing import Tuple

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Count, Ratio


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each position."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, h, w)."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@MODELS.register_module()
class VFMUDAHead(BaseDecodeHead):
    """The light decoder of VFM-UDA (Englert et al., CVPR Workshops 2024), for a plain ViT.

    Two transposed convolutions, each of twice the size and half the width, and a 3x3 convolution,
    with layer normalisation: no layer depends on other images, in the teacher neither.

    Args:
        in_channels (int): Width of the features, a multiple of 4.
        **kwargs: As in mmseg's ``BaseDecodeHead``, less ``channels``: a quarter of ``in_channels``.
    """

    def __init__(self,
                 in_channels: Count,
                 dropout_ratio: Ratio = 0,
                 init_cfg: dict = dict(
                     type='Normal', std=0.1, override=dict(name='conv_seg')),
                 **kwargs) -> None:
        half, quarter = in_channels // 2, in_channels // 4
        super().__init__(
            in_channels, quarter, dropout_ratio=dropout_ratio, init_cfg=init_cfg, **kwargs)
        self.upscale = nn.Sequential(
            nn.ConvTranspose2d(in_channels, half, 2, stride=2, bias=False), LayerNorm2d(half, 1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2, bias=False), LayerNorm2d(quarter, 1e-6),
            nn.Conv2d(quarter, quarter, 3, padding=1, bias=False), LayerNorm2d(quarter, 1e-6))
        self.conv_seg = nn.Conv2d(quarter, self.out_channels, 1, bias=False)

    def forward(self, inputs: Tuple[Tensor, ...]) -> Tensor:
        """Logits (N, num_classes, 4h, 4w) of features (N, in_channels, h, w)."""
        return self.cls_seg(self.upscale(self._transform_inputs(inputs)))
