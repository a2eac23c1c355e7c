import mmcv
import mmengine
import mmseg
import torch

from structseg_mmseg.version import __version__


def stack() -> str:
    """The versions of this package and of what it stands on."""
    return (f'structseg_mmseg {__version__}, torch {torch.__version__}, mmcv {mmcv.__version__}, '
            f'mmengine {mmengine.__version__}, mmsegmentation {mmseg.__version__}')
