from .deeplab_resnet import DeepLabResNet
from .efficientnet_lite import EfficientNetLite

__all__ = ['DeepLabResNet', 'EfficientNetLite']
