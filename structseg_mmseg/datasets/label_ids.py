import os
import os.path as osp
from functools import cached_property
from typing import FrozenSet, Iterator, List, Optional, Sequence, Set, Union

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.registry import DATASETS

from structseg_mmseg.errors import InputError


class UnreadableInputError(InputError):
    """A file is missing, cut off or of no known format: a training may go on without it."""


class LabelIdsDataset(BaseSegDataset):
    """A data set whose labels hold ids, by default Cityscapes', as its archive is unpacked.

    The transform ``MapLabelIds`` turns the ids into the indices of ``metainfo['classes']``, by
    default the 19 classes of Cityscapes' evaluation, else any choice of them in any order; all
    other ids are ignored. Without ``seg_map_path`` in ``data_prefix``, no label is looked for.

    Args:
        **kwargs: As in mmseg's ``BaseSegDataset``: ``data_root``, ``data_prefix``, ``ann_file`` (a
            list of names without suffix, one a line), ``metainfo``, ``pipeline``, ...
    """

    METAINFO = CityscapesDataset.METAINFO
    # The labelId of each class in METAINFO, and the number of ids that a label may hold.
    label_ids = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    num_label_ids = 34
    # Images whose labels may have another size.
    uneven: FrozenSet[str] = frozenset()

    def __init__(self, img_suffix: str = '.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Optional[Sequence[str]] = None) -> Union[dict, None]:
        """As in ``BaseSegDataset``, with a sentence for a class that does not exist."""
        unknown = set(new_classes or ()) - set(cls.METAINFO['classes'])
        if unknown:
            raise InputError(f'metainfo.classes names {min(unknown)!r}: choose from '
                             f'{", ".join(cls.METAINFO["classes"])}')
        return super().get_label_map(new_classes)

    def load_data_list(self) -> List[dict]:
        """Find the images and check that every label is there.

        Each entry is only a name, as a million of them must fit into memory.

        Raises:
            InputError: If a folder, an image on the list, a label, or every image is missing.
        """
        found = self._names('img_path', self.img_suffix)
        names = self._listed_names() if self.ann_file else sorted(
            found, key=lambda name: name + self.img_suffix)
        if not names:
            raise InputError(f'{self.ann_file or self.data_prefix["img_path"]} holds no image '
                             f'*{self.img_suffix}: check data_root, data_prefix, img_suffix and '
                             'ann_file')
        self._check_names(names, found, 'img_path', self.img_suffix)
        if self.data_prefix.get('seg_map_path') is not None:
            found = self._names('seg_map_path', self.seg_map_suffix)
            self._check_names(names, found, 'seg_map_path', self.seg_map_suffix)
        return [dict(name=name) for name in names]

    def _names(self, key: str, suffix: str) -> Set[str]:
        """The files below a folder, relative to it and without their suffix."""
        folder = self.data_prefix.get(key)
        if folder is None:
            raise InputError(f'data_prefix has no {key}: name the folder of the images')
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise InputError(f'there is no folder {folder}: set data_root, or the environment '
                             'variable that the config reads it from, to the unpacked data set')
        files = _walk(folder) if osp.isdir(folder) else fileio.list_dir_or_file(
            folder, list_dir=False, recursive=True, backend_args=self.backend_args)
        return {file[:len(file) - len(suffix)] for file in files if file.endswith(suffix)}

    def _check_names(self, names: List[str], found: Set[str], key: str, suffix: str) -> None:
        for name in names:
            if name not in found:
                kind, path = 'image' if key == 'img_path' else 'label', self.data_prefix[key]
                raise InputError(f'there is no {kind} {osp.join(path, name + suffix)}: add it, or '
                                 'leave this sample out by a list file (ann_file)')

    def _listed_names(self) -> List[str]:
        if not osp.isfile(self.ann_file):
            raise InputError(f'there is no list {self.ann_file}: set ann_file to a file of names, '
                             'one a line')
        try:
            with open(self.ann_file, encoding='utf-8-sig') as lines:  # with or without a mark
                return [osp.normpath(line.strip()) for line in lines if line.strip()]
        except UnicodeDecodeError:
            raise InputError(f'{self.ann_file} is not text in UTF-8: save it as such') from None

    @cached_property
    def label_lut(self) -> np.ndarray:
        """Class index, or ``ignore_index``, of each labelId; uint8, (num_label_ids,)."""
        lut = np.full(self.num_label_ids, self.ignore_index, np.uint8)
        for index, label_id in enumerate(self.label_ids):
            lut[label_id] = index if self.label_map is None else self.label_map[index]
        return lut

    def get_data_info(self, idx: int) -> dict:
        """As in ``BaseSegDataset``, and what ``MapLabelIds`` needs."""
        info = super().get_data_info(idx)
        name = info.pop('name')
        for key, suffix in (('img_path', self.img_suffix), ('seg_map_path', self.seg_map_suffix)):
            if self.data_prefix.get(key) is not None:
                info[key] = osp.join(self.data_prefix[key], name + suffix)
        # LoadAnnotations has nothing to map: MapLabelIds does it.
        return dict(info, label_map=None, reduce_zero_label=self.reduce_zero_label, seg_fields=[],
                    label_lut=self.label_lut)

    def prepare_data(self, idx: int) -> dict:
        """As in ``BaseSegDataset``.

        Raises:
            UnreadableInputError: If a file cannot be read; it names the sample.
        """
        try:
            return super().prepare_data(idx)
        except InputError:
            raise
        except (OSError, SyntaxError, AssertionError, cv2.error) as error:
            # Pillow raises the first two; mmcv asserts that OpenCV has decoded something.
            info = self.get_data_info(idx)
            files = [info[key] for key in ('img_path', 'seg_map_path') if key in info]
            raise UnreadableInputError(
                f'{" or ".join(files)} cannot be read ({error}): restore the file, or leave this '
                'sample out by a list file (ann_file)') from None


def _walk(root: str) -> Iterator[str]:
    """The files below a folder, relative to it, through links to folders, too."""
    start = len(osp.join(root, ''))
    for folder, _, files in os.walk(root, onerror=_raise, followlinks=True):
        place = osp.join(folder, '')[start:]
        yield from (place + file for file in files if not file.startswith('.'))


def _raise(error: OSError) -> None:
    raise error


@DATASETS.register_module()
class GTADataset(LabelIdsDataset):
    """GTA5 ("Playing for Data"): ``images/00001.png`` and ``labels/00001.png`` below one root."""

    num_label_ids = 35  # the last one is the licence plate, -1 in Cityscapes
    # As others have found. Resize brings both to one size, as in [14].
    uneven = frozenset(f'{number:05d}' for number in (15188, 17705, *range(20801, 20861)))


@DATASETS.register_module()
class CityscapesLabelIdsDataset(LabelIdsDataset):
    """Cityscapes, ``leftImg8bit_trainvaltest.zip`` and ``gtFine_trainvaltest.zip`` unpacked."""

    def __init__(self,
                 img_suffix: str = '_leftImg8bit.png',
                 seg_map_suffix: str = '_gtFine_labelIds.png',
                 **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class SynthiaDataset(LabelIdsDataset):
    """SYNTHIA-RAND-CITYSCAPES: ``RGB/0000000.png`` and ``GT/LABELS/0000000.png`` below one root.

    Its ids are its own, and come by the transform ``LoadSynthiaLabels``. All 19 classes have one,
    but no image shows terrain, trucks or trains.
    """

    label_ids = (3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11)
    num_label_ids = 23
