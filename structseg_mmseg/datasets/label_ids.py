import os.path as osp
from functools import cached_property
from typing import List, Optional, Sequence, Union

import mmengine.fileio as fileio
import numpy as np
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.registry import DATASETS

from structseg_mmseg.errors import InputError


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

        Raises:
            InputError: If a folder, an image on the list, a label, or every image is missing.
        """
        self._check_folder('img_path')
        if self.ann_file and not osp.exists(self.ann_file):
            raise InputError(f'there is no list {self.ann_file}: set ann_file to a file of names, '
                             'one a line')
        data_list = super().load_data_list()
        if not data_list:
            raise InputError(f'{self.data_prefix["img_path"]} holds no image *{self.img_suffix}: '
                             'check data_root, data_prefix and img_suffix')
        required = []
        if self.ann_file:  # else the images are those that were found
            required.append(('img_path', 'image', self._names('img_path', self.img_suffix)))
        if self.data_prefix.get('seg_map_path') is not None:
            self._check_folder('seg_map_path')
            required.append(
                ('seg_map_path', 'label', self._names('seg_map_path', self.seg_map_suffix)))
        for info in data_list:
            info['label_map'] = None  # for LoadAnnotations; MapLabelIds does it
            for key, kind, names in required:
                if osp.relpath(info[key], self.data_prefix[key]) not in names:
                    raise InputError(
                        f'there is no {kind} {info[key]}: add it, or leave this sample out by a '
                        'list file (ann_file)')
        return data_list

    def _check_folder(self, key: str) -> None:
        folder = self.data_prefix.get(key)
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise InputError(f'there is no folder {folder}: set data_root, or the environment '
                             'variable that the config reads it from, to the unpacked data set')

    def _names(self, key: str, suffix: str) -> set:
        return set(fileio.list_dir_or_file(
            self.data_prefix[key], list_dir=False, suffix=suffix, recursive=True,
            backend_args=self.backend_args))

    @cached_property
    def label_lut(self) -> np.ndarray:
        """Class index, or ``ignore_index``, of each labelId; uint8, (num_label_ids,)."""
        lut = np.full(self.num_label_ids, self.ignore_index, np.uint8)
        for index, label_id in enumerate(self.label_ids):
            lut[label_id] = index if self.label_map is None else self.label_map[index]
        return lut

    def get_data_info(self, idx: int) -> dict:
        """As in ``BaseSegDataset``, and what ``MapLabelIds`` needs."""
        return dict(super().get_data_info(idx), label_lut=self.label_lut)

    def prepare_data(self, idx: int) -> dict:
        """As in ``BaseSegDataset``.

        Raises:
            InputError: If a file cannot be read; it names the sample.
        """
        try:
            return super().prepare_data(idx)
        except InputError:
            raise
        except (OSError, SyntaxError, AssertionError) as error:
            # Pillow raises the first two, mmcv asserts that OpenCV has decoded something.
            info = self.get_data_info(idx)
            files = ' or '.join(info[key] for key in ('img_path', 'seg_map_path') if key in info)
            raise InputError(f'{files} cannot be read ({error}): restore the file, or leave this '
                             'sample out by a list file (ann_file)') from None


@DATASETS.register_module()
class GTADataset(LabelIdsDataset):
    """GTA5 ("Playing for Data"): ``images/00001.png`` and ``labels/00001.png`` below one root."""

    num_label_ids = 35  # the last one is the licence plate, -1 in Cityscapes


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
