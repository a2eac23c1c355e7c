from typing import List, Set, Sized

import numpy as np
from mmseg.registry import DATASETS

from .label_ids import LabelIdsDataset

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')


def evenly_spread(dataset: Sized, number: int) -> List[int]:
    """Indices of at most so many samples of a data set, from its first to its last."""
    return np.linspace(0, len(dataset) - 1, min(number, len(dataset))).round().astype(int).tolist()


@DATASETS.register_module()
class ImageFolderDataset(LabelIdsDataset):
    """All images below a folder, in folders of their own or not, without labels or classes.

    Args:
        **kwargs: As in ``LabelIdsDataset``: ``data_prefix`` (its ``img_path`` is the folder),
            ``pipeline``, ...
    """

    METAINFO = dict(classes=(), palette=[])

    def __init__(self, **kwargs) -> None:
        super().__init__(img_suffix='', **kwargs)  # names keep their suffixes, which may differ

    def _names(self, key: str, suffix: str) -> Set[str]:
        return {name for name in super()._names(key, suffix) if name.lower().endswith(IMAGES)}
