from contextlib import nullcontext

import torch
from mmseg.models.backbones import ResNet
from mmseg.models.utils import ResLayer
from mmseg.registry import MODELS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from structseg_mmseg.models.adaptation.batch_statistics import kept_statistics


@MODELS.register_module()
class DeepLabResNet(ResNet):
    """mmseg's ResNet with the max-pooling of DeepLab, which rounds sizes up.

    Reference [14] inherits it from DeepLabv2: 1024 columns give 129 after pooling and 65 at stride
    8, so feature ``i`` lies over pixel ``8i`` from border to border, as ``align_corners=True``
    takes for granted. mmseg's ResNet has no argument for it.

    ``with_cp=True`` recomputes each block in the backward pass instead of keeping its activations,
    as in mmseg, but counts a batch once in the statistics of batch normalisation, not twice. All
    else is mmseg's own.
    """

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        self.maxpool.ceil_mode = True

    def make_res_layer(self, with_cp: bool, **kwargs) -> ResLayer:
        """A stage of the network."""
        layer = CheckpointedResLayer if with_cp else ResLayer
        return layer(with_cp=False, **kwargs)


class CheckpointedResLayer(ResLayer):
    """A stage that keeps only the inputs of its blocks for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            if not x.requires_grad:
                x = block(x)
            elif torch.compiler.is_compiling():  # a compiled graph recomputes no side effects
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = checkpoint(block, x, use_reentrant=False,
                               context_fn=lambda: (nullcontext(), kept_statistics(block)))
        return x
