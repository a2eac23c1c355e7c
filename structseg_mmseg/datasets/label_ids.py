import os
import os.path as osp
import pickle
from functools import cached_property
from pathlib import Path
from typing import FrozenSet, Iterator, List, Optional, Sequence, Tuple, Union

import mmengine.fileio as fileio
import numpy as np
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.registry import DATASETS
from PIL import Image

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
        """Find the images and see that every label is there.

        Each entry is a name alone: a million of them have to fit the memory.

        Raises:
            InputError: If a folder, an image on the list, a label, or every image is missing.
        """
        self._check_folder('img_path')
        if self.ann_file:
            names = self._listed_names()
            self._check_files('img_path', 'image', self.img_suffix, names)
        else:
            names = sorted(self._names('img_path', self.img_suffix),
                           key=lambda name: name + self.img_suffix)
        if not names:
            raise InputError(f'{self.ann_file or self.data_prefix["img_path"]} holds no image '
                             f'*{self.img_suffix}: check data_root, data_prefix, img_suffix and '
                             'ann_file')
        if self.data_prefix.get('seg_map_path') is not None:
            self._check_folder('seg_map_path')
            self._check_files('seg_map_path', 'label', self.seg_map_suffix, names)
        return [dict(name=name) for name in names]

    def _check_folder(self, key: str) -> None:
        folder = self.data_prefix.get(key)
        if folder is None:
            raise InputError(f'data_prefix has no {key}: name the folder of the images')
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise InputError(f'there is no folder {folder}: set data_root, or the environment '
                             'variable that the config reads it from, to the unpacked data set')

    def _check_files(self, key: str, kind: str, suffix: str, names: List[str]) -> None:
        found = set(self._names(key, suffix))
        for name in names:
            if name not in found:
                raise InputError(
                    f'there is no {kind} {osp.join(self.data_prefix[key], name + suffix)}: add '
                    'it, or leave this sample out by a list file (ann_file)')

    def _listed_names(self) -> List[str]:
        if not osp.isfile(self.ann_file):
            raise InputError(f'there is no list {self.ann_file}: set ann_file to a file of names, '
                             'one a line')
        try:
            with open(self.ann_file, encoding='utf-8-sig') as lines:  # with or without a mark
                return [osp.normpath(line.strip()) for line in lines if line.strip()]
        except UnicodeDecodeError:
            raise InputError(f'{self.ann_file} is no text in UTF-8: save it as such') from None

    def _names(self, key: str, suffix: str) -> Iterator[str]:
        """The files below a folder, relative to it and without their suffix."""
        folder = self.data_prefix[key]
        files = _walk(folder) if osp.isdir(folder) else fileio.list_dir_or_file(
            folder, list_dir=False, recursive=True, backend_args=self.backend_args)
        return (file[:len(file) - len(suffix)] for file in files if file.endswith(suffix))

    def _serialize_data(self) -> Tuple[np.ndarray, np.ndarray]:
        """As in ``BaseDataset``, without an array for each sample on the way."""
        data, ends = bytearray(), np.empty(len(self.data_list), np.int64)
        for number, info in enumerate(self.data_list):
            data += pickle.dumps(info, protocol=4)
            ends[number] = len(data)
        self.data_list.clear()
        return np.frombuffer(data, np.uint8), ends

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
            InputError: If it can, but not as what it shows.
        """
        info = self.get_data_info(idx)
        files = [info[key] for key in ('img_path', 'seg_map_path') if key in info]
        try:
            self._check_headers(files)
            return super().prepare_data(idx)
        except InputError:
            raise
        except (OSError, SyntaxError, AssertionError) as error:
            # Pillow raises the first two, mmcv asserts that OpenCV has decoded something.
            raise UnreadableInputError(
                f'{" or ".join(files)} cannot be read ({error}): restore the file, or leave this '
                'sample out by a list file (ann_file)') from None

    def _check_headers(self, files: List[str]) -> None:
        """Refuse what would be decoded without an error, but wrongly."""
        sizes = []
        for file in files:
            with fileio.get_local_path(file, backend_args=self.backend_args) as path, \
                    Image.open(path) as picture:
                if picture.mode[0] in 'FI':  # 'F', 'I', 'I;16': they are clipped or wrap around
                    raise InputError(f'{file} has pixels of type {picture.mode}: save it with 8 '
                                     'bits a channel')
                # A look into info, as getexif() may decode the whole; 0x0112 is the orientation.
                turn = picture.getexif().get(0x0112, 1) if 'exif' in picture.info else 1
                if len(files) > 1 and turn != 1:
                    raise InputError(f'{file} has the EXIF orientation {turn}, which would turn it '
                                     'without its partner: turn its pixels instead')
                sizes.append('x'.join(map(str, picture.size)))
        if len(set(sizes)) > 1 and Path(files[0]).stem not in self.uneven:
            raise InputError(f'{files[1]} has {sizes[1]} pixels where its image has {sizes[0]}: '
                             'give a label of the same size')


def _walk(root: str) -> Iterator[str]:
    """The files below a folder, relative to it, through links to folders, too."""
    start = len(osp.join(root, ''))
    for folder, _, files in os.walk(root, onerror=_raise, followlinks=True):
        if osp.islink(folder) and any(osp.samefile(folder, above)
                                      for above in Path(osp.abspath(folder)).parents):
            raise InputError(f'{folder} is a link to a folder that it lies in: remove the link')
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
