from .check_headers import check_headers
from .images import IMAGES, VIDEOS, ImageFolderDataset, evenly_spread
from .label_ids import (CityscapesLabelIdsDataset, GTADataset, LabelIdsDataset, SynthiaDataset,
                        UnreadableInputError)
from .rare_class_sampling import RareClassSampling
from .transforms import LoadSynthiaLabels, MapLabelIds, MarkMargins, PackTrusted

__all__ = ['IMAGES', 'VIDEOS', 'CityscapesLabelIdsDataset', 'GTADataset', 'ImageFolderDataset',
           'LabelIdsDataset', 'LoadSynthiaLabels', 'MapLabelIds', 'MarkMargins', 'PackTrusted',
           'RareClassSampling', 'SynthiaDataset', 'UnreadableInputError', 'check_headers',
           'evenly_spread']
