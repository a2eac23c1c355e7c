from .check_headers import check_headers
from .label_ids import (CityscapesLabelIdsDataset, GTADataset, LabelIdsDataset, SynthiaDataset,
                        UnreadableInputError)
from .rare_class_sampling import RareClassSampling
from .transforms import LoadSynthiaLabels, MapLabelIds

__all__ = ['CityscapesLabelIdsDataset', 'GTADataset', 'LabelIdsDataset', 'LoadSynthiaLabels',
           'MapLabelIds', 'RareClassSampling', 'SynthiaDataset', 'UnreadableInputError',
           'check_headers']
