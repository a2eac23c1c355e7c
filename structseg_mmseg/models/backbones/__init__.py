from .deeplab_resnet import DeepLabResNet
from .efficientnet_lite import EfficientNetLite
from .timm_encoder import TIMMEncoder

__all__ = ['DeepLabResNet', 'EfficientNetLite', 'TIMMEncoder']
