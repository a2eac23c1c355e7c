from mmengine.model import BaseDataPreprocessor


def takes_rgb(preprocessor: BaseDataPreprocessor) -> bool:
    """Whether what a preprocessor feeds takes RGB; images come as BGR, as mmseg reads them."""
    stacks = ('_channel_conversion', 'channel_conversion')  # onedl's name, and OpenMMLab's
    return any(getattr(preprocessor, name, False) for name in stacks)
