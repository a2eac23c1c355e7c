import logging
from typing import Any, Tuple, Union

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.runner.utils import set_random_seed
from torch.utils.data import Dataset, get_worker_info

from structseg_mmseg.errors import InputError

from .label_ids import UnreadableInputError


class SeededDataset(Dataset):
    """A data set that seeds what is random in a sample when it is asked for.

    Args:
        dataset (Dataset): The data set; its transforms draw from python's, numpy's or torch's
            global generator.
        max_unreadable (int): How many samples that cannot be read others may replace.
        num_workers (int): Of the loader.

    Attributes:
        unreadable (torch.Tensor): How many samples each worker has replaced, int64, (num_workers,);
            each adds to its own number, so they need no lock.
    """

    def __init__(self, dataset: Dataset, max_unreadable: int = 0, num_workers: int = 0) -> None:
        self.dataset = dataset
        self.max_unreadable = max_unreadable
        self.unreadable = torch.zeros(max(1, num_workers), dtype=torch.int64)

    @property
    def metainfo(self) -> dict:
        """The data set's."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Union[int, Tuple[int, tuple]]) -> Any:
        """The sample at an index, seeded if a seed (several integers) comes with it.

        If a seeded sample cannot be read, the seed draws another one.

        Raises:
            InputError: If more than ``max_unreadable`` cannot be read.
        """
        if not isinstance(key, tuple):
            return self.dataset[key]
        index, seed = key
        while True:
            seed_generators(*seed)
            try:
                sample = self.dataset[index]
            except UnreadableInputError as error:
                if not self.max_unreadable:
                    raise
                self._count(error)
                seed = (*seed, 1)
                index = int(np.random.default_rng(seed).integers(len(self)))
            else:
                # What terms draw for the sample starts from it, too: Batch.generators.
                if isinstance(sample, dict) and 'data_samples' in sample:
                    sample['data_samples'].set_metainfo(dict(seed=seed))
                return sample

    def _count(self, error: UnreadableInputError) -> None:
        worker = get_worker_info()
        self.unreadable[worker.id if worker else 0] += 1
        number = int(self.unreadable.sum())
        if number > self.max_unreadable:
            raise InputError(
                f'{number} samples could not be read where train_cfg.max_unreadable is '
                f'{self.max_unreadable}, the last one as {error}') from None
        print_log(f'{error}; another sample takes its place ({number} of at most '
                  f'{self.max_unreadable}: train_cfg.max_unreadable)', 'current', logging.WARNING)


def seed_generators(*seed: int) -> None:
    """Seed python's, numpy's and torch's global generators from several integers."""
    set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
