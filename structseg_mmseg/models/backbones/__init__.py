from .deeplab_resnet import DeepLabResNet
from .efficientnet_lite import EfficientNetLite
from .timm_encoder import TIMMEncoder
from .two_scales import TwoScales

__all__ = ['DeepLabResNet', 'EfficientNetLite', 'TIMMEncoder', 'TwoScales']
