from .class_iou_metric import ClassIoUMetric
from .label_free_metric import LabelFreeMetric

__all__ = ['ClassIoUMetric', 'LabelFreeMetric']
