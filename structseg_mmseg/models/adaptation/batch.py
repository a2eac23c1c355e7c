from dataclasses import dataclass, replace
from typing import List, Optional
from zlib import crc32

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor


@dataclass
class Batch:
    """The images of one pass, and what is known about them.

    Args:
        inputs (Tensor): Normalised images (N, 3, H, W).
        data_samples (list[SegDataSample]): Meta information of each image and, if the batch is
            labelled, ``gt_sem_seg``.
        weights (Tensor, optional): What each pixel counts in the supervised loss, (N, H, W).
        statistics (str, optional): Which domain's running statistics of batch normalisation the
            pass updates, ``source`` or ``target``; None if it updates neither.
        hidden (Tensor, optional): Tokens to be hidden, of an encoder that can: bool (N, *grid).
    """

    inputs: Tensor
    data_samples: List[SegDataSample]
    weights: Optional[Tensor] = None
    statistics: Optional[str] = 'target'
    hidden: Optional[Tensor] = None

    @property
    def labels(self) -> Optional[Tensor]:
        """Class indices (N, H, W), or None if the batch is not labelled."""
        if not all('gt_sem_seg' in sample for sample in self.data_samples):
            return None
        return torch.cat([sample.gt_sem_seg.data for sample in self.data_samples])

    @property
    def shown(self) -> Tensor:
        """Pixels of the images, not of what the preprocessor has padded, bool (N, H, W)."""
        shown = torch.ones_like(self.inputs[:, 0], dtype=torch.bool)
        height, width = shown.shape[1:]
        for image, sample in zip(shown, self.data_samples):
            _, right, _, bottom = sample.metainfo.get('padding_size', (0, 0, 0, 0))
            image[height - bottom:] = False
            image[:, width - right:] = False
        return shown

    @property
    def trusted(self) -> Optional[Tensor]:
        """Pixels whose pseudo-labels count (:class:`PackTrusted`), bool (N, H, W); None: all."""
        if not all('trusted' in sample for sample in self.data_samples):
            return None
        return torch.cat([sample.trusted.data for sample in self.data_samples])

    def labelled(self, labels: Tensor, weights: Optional[Tensor] = None) -> 'Batch':
        """This batch with other labels (N, H, W), and weights of that shape."""
        samples = []
        for sample, label in zip(self.data_samples, labels):
            sample = SegDataSample(metainfo=sample.metainfo)
            sample.gt_sem_seg = PixelData(data=label[None])
            samples.append(sample)
        return replace(self, data_samples=samples, weights=weights)

    def generators(self, purpose: str) -> List[torch.Generator]:
        """A generator on the CPU for each image, to draw what is random about it in training.

        Its seed is that of the image's place in the run (see ``SeededDataset``) and the purpose,
        so that draws depend neither on the number of ranks nor on what else is drawn.

        Args:
            purpose (str): What the draws are for, such as the name of the term and the transform.
        """
        generators = []
        for sample in self.data_samples:
            entropy = (*sample.metainfo['seed'], crc32(purpose.encode()))
            seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
            generators.append(torch.Generator().manual_seed(seed))
        return generators
