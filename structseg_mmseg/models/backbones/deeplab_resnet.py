from mmseg.models.backbones import ResNet
from mmseg.registry import MODELS


@MODELS.register_module()
class DeepLabResNet(ResNet):
    """mmseg's ResNet with the max-pooling of DeepLab, which rounds sizes up.

    Reference [14] inherits it from DeepLabv2: 1024 columns give 129 after pooling and 65 at stride
    8, so feature ``i`` lies over pixel ``8i`` from border to border, as ``align_corners=True``
    takes for granted. mmseg's ResNet has no argument for it; all else is its own.
    """

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        self.maxpool.ceil_mode = True
