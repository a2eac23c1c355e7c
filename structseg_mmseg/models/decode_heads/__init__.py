from .daformer_head import DAFormerHead
from .deeplabv2_head import DeepLabV2Head
from .hrda_head import HRDAHead
from .vfm_uda_head import VFMUDAHead

__all__ = ['DAFormerHead', 'DeepLabV2Head', 'HRDAHead', 'VFMUDAHead']
