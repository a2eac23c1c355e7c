from .check_headers import check_headers
from .images import IMAGES, ImageFolderDataset
from .label_ids import (CityscapesLabelIdsDataset, GTADataset, LabelIdsDataset, SynthiaDataset,
                        UnreadableInputError)
from .rare_class_sampling import RareClassSampling
from .transforms import LoadSynthiaLabels, MapLabelIds, MarkMargins, PackTrusted

__all__ = ['IMAGES', 'CityscapesLabelIdsDataset', 'GTADataset', 'ImageFolderDataset',
           'LabelIdsDataset', 'LoadSynthiaLabels', 'MapLabelIds', 'MarkMargins', 'PackTrusted',
           'RareClassSampling', 'SynthiaDataset', 'UnreadableInputError', 'check_headers']
