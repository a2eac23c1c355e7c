"""What mmseg's data preprocessors do to images, and how to undo it."""
from mmengine.model import BaseDataPreprocessor
from torch import Tensor


def takes_rgb(preprocessor: BaseDataPreprocessor) -> bool:
    """Whether the network takes RGB; images come as BGR, as mmseg reads them."""
    stacks = ('_channel_conversion', 'channel_conversion')  # onedl's name, and OpenMMLab's
    return any(getattr(preprocessor, name, False) for name in stacks)


def denormalize(preprocessor: BaseDataPreprocessor, inputs: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 255] from normalised ones; channels stay in their order."""
    if not preprocessor._enable_normalize:
        return inputs
    return inputs * preprocessor.std + preprocessor.mean


def normalize(preprocessor: BaseDataPreprocessor, image: Tensor) -> Tensor:
    """The inverse of :func:`denormalize`."""
    if not preprocessor._enable_normalize:
        return image
    return (image - preprocessor.mean) / preprocessor.std
