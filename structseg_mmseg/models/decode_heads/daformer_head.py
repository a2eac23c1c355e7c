from typing import Any, Optional, Sequence, Tuple

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.sep_aspp_head import DepthwiseSeparableASPPModule
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Count


@MODELS.register_module()
class DAFormerHead(BaseDecodeHead):
    """The decoder of DAFormer (Hoyer et al., CVPR 2022, section 3.2): features fused with context.

    The features of each stride are mapped to ``channels`` by a linear layer and resized to the
    first's; of all together there are a 1x1 and depthwise separable 3x3 convolutions of several
    dilations, which a 3x3 convolution joins.

    Args:
        in_channels (Sequence[int]): Widths of the features.
        channels (int): 256 in DAFormer.
        dilations (Sequence[int], optional): Rates; 1 stands for the 1x1 convolution. None: a 1x1
            convolution fuses the features, as in HRDA's scale attention.
        in_index (Sequence[int], optional): Which of the encoder's features; default: all.
        **kwargs: As in mmseg's ``BaseDecodeHead``.
    """

    def __init__(self,
                 in_channels: Sequence[Count],
                 channels: Count = 256,
                 dilations: Optional[Sequence[Count]] = (1, 6, 12, 18),
                 in_index: Any = None,
                 **kwargs) -> None:
        super().__init__(
            in_channels, channels, input_transform='multiple_select',
            in_index=in_index or list(range(len(in_channels))), **kwargs)
        self.embed_layers = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        layers = dict(norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.aspp_modules = DepthwiseSeparableASPPModule(
            dilations=dilations or (), in_channels=len(in_channels) * channels, channels=channels,
            conv_cfg=self.conv_cfg, **layers)
        kernel = 3 if dilations else 1
        self.bottleneck = ConvModule(
            len(dilations or in_channels) * channels, channels, kernel, padding=kernel // 2,
            conv_cfg=self.conv_cfg, **layers)

    def forward(self, inputs: Tuple[Tensor, ...]) -> Tensor:
        """Logits (N, num_classes, h, w) at the stride of the first features."""
        features = self._transform_inputs(inputs)
        size = features[0].shape[2:]
        fused = torch.cat([
            resize(embed(feature), size, mode='bilinear', align_corners=self.align_corners)
            for embed, feature in zip(self.embed_layers, features)], dim=1)
        if len(self.aspp_modules):
            fused = torch.cat(self.aspp_modules(fused), dim=1)
        return self.cls_seg(self.bottleneck(fused))
