import json
import os
from typing import Any, Dict, List, Optional

import numpy as np
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from structseg_mmseg.bounds import Natural, Weight
from structseg_mmseg.errors import InputError


@DATASETS.register_module()
class RareClassSampling(Dataset):
    r"""DAFormer (Hoyer et al., CVPR 2022), section 3.3: images with rare classes come more often.

    With f the share of a class in all labelled pixels, a sample is drawn by its class,

    .. math:: P(c) = \frac{e^{(1 - f_c) / T}}{\sum_{c'} e^{(1 - f_{c'}) / T}},

    then uniformly among the images with more than ``min_pixels`` of it; the pipeline runs again, up
    to ten times, until the crop has enough of it, too. Classes that no image has enough of are
    left out. Draws are numpy's, which the training loop seeds for each sample, so that they are the
    same whatever the ranks and workers, and after a resume; the index asked for does not matter.

    Args:
        dataset (dict): Config of the labelled data set.
        statistics (str): File of the pixels of each class in each image, written by
            ``tools/dataset_converters/count_class_sizes.py --pixels``.
        temperature (float): T; 0.01 in DAFormer.
        min_pixels (int): Of an image's label at its full size; 3000 in DAFormer.
        min_crop_ratio (float): How many of these a crop is to have, as a share; 0.5 in DAFormer, 0
            takes the first crop.
    """

    tries = 10

    def __init__(self,
                 dataset: dict,
                 statistics: str,
                 temperature: Weight = 0.01,
                 min_pixels: Natural = 3000,
                 min_crop_ratio: Weight = 0.5) -> None:
        if not temperature > 0:
            raise InputError(f'temperature of RareClassSampling is {temperature!r}: give a '
                             'number above 0')
        self.dataset: BaseDataset = DATASETS.build(dataset)
        self.statistics = statistics
        self.temperature = temperature
        self.min_pixels = min_pixels
        self.min_crop_ratio = min_crop_ratio
        self._images: Optional[List[np.ndarray]] = None

    @property
    def metainfo(self) -> dict:
        """The data set's."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def full_init(self) -> None:
        """List the data set's images and those with each class."""
        if self._images is not None:
            return
        self.dataset.full_init()
        counts = self._counts()
        present = counts > self.min_pixels
        share = counts.sum(axis=0) / max(counts.sum(), 1)
        odds = np.where(present.any(axis=0), (1 - share) / self.temperature, -np.inf)
        if not np.isfinite(odds).any():
            raise InputError(f'no image has more than {self.min_pixels} pixels of a class: lower '
                             'min_pixels of the RareClassSampling')
        self.probabilities = np.exp(odds - odds.max())
        self.probabilities /= self.probabilities.sum()
        self._images = [np.flatnonzero(column) for column in present.T]

    def _counts(self) -> np.ndarray:
        """Pixels of each class in each image, (len(self), num_classes)."""
        remedy = 'write it by tools/dataset_converters/count_class_sizes.py --pixels'
        try:
            with open(self.statistics) as file:
                pixels: Dict[str, Any] = json.load(file)
        except FileNotFoundError:
            raise InputError(
                f'there is no file {self.statistics} of class statistics: {remedy}') from None
        names = [image_name(self.dataset, index) for index in range(len(self))]
        missing = next((name for name in names if name not in pixels['images']), None)
        if missing is not None or pixels['classes'] != list(self.metainfo['classes']):
            raise InputError(f'{self.statistics} has other images or classes than the data set'
                             f'{f", such as {missing}" if missing else ""}: {remedy} from this '
                             'config')
        return np.array([pixels['images'][name] for name in names])

    def __getitem__(self, index: int) -> dict:
        """A sample, drawn by its class."""
        self.full_init()
        assert self._images is not None
        label = np.random.choice(len(self.probabilities), p=self.probabilities)
        image = np.random.choice(self._images[label])
        for _ in range(self.tries):
            sample = self.dataset[image]
            pixels = (sample['data_samples'].gt_sem_seg.data == int(label)).sum()
            if not self.min_crop_ratio or pixels > self.min_pixels * self.min_crop_ratio:
                break
        return sample


def image_name(dataset: BaseDataset, index: int) -> str:
    """An image's path below the data set's root, by which statistics know it."""
    path = dataset.get_data_info(index)['img_path']
    return os.path.relpath(path, dataset.data_root or '').replace(os.sep, '/')
