from .check_headers import check_headers
from .label_ids import (CityscapesLabelIdsDataset, GTADataset, LabelIdsDataset, SynthiaDataset,
                        UnreadableInputError)
from .transforms import LoadSynthiaLabels, MapLabelIds

__all__ = ['CityscapesLabelIdsDataset', 'GTADataset', 'LabelIdsDataset', 'LoadSynthiaLabels',
           'MapLabelIds', 'SynthiaDataset', 'UnreadableInputError', 'check_headers']
