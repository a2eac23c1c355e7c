from .deeplab_resnet import DeepLabResNet
from .efficientnet_lite import EfficientNetLite
from .two_scales import TwoScales

__all__ = ['DeepLabResNet', 'EfficientNetLite', 'TwoScales']
