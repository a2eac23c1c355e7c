from typing import Set

from mmseg.registry import DATASETS

from .label_ids import LabelIdsDataset

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')


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
