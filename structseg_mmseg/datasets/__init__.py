from .label_ids import CityscapesLabelIdsDataset, GTADataset, LabelIdsDataset
from .transforms import MapLabelIds

__all__ = ['CityscapesLabelIdsDataset', 'GTADataset', 'LabelIdsDataset', 'MapLabelIds']
