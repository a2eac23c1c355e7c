"""Measure what share of a source image each class covers, for the term ClassSize.

    python tools/dataset_converters/count_class_sizes.py CONFIG OUT.json [--nproc N]

For each class OUT.json holds the 10th percentile (``lower``), the mean and the 90th percentile
(``upper``) of its share of the labelled pixels, over the images that contain it, and the number of
these ``images``; null for a class in no image. The labels are those of CONFIG's
``train_dataloader``, uncropped; no image is read.
"""
import argparse
import json
import os
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from structseg_mmseg.errors import InputError, one_sentence_errors


class Shares(Dataset):
    """The share of labelled pixels of each class in each label, (num_classes,)."""

    def __init__(self, cfg: Config) -> None:
        pipeline = [transform for transform in cfg.train_dataloader.dataset.pipeline
                    if transform.type in ('LoadAnnotations', 'MapLabelIds')]
        if not pipeline:
            raise InputError('train_dataloader.dataset.pipeline has no LoadAnnotations: give a '
                             'config whose source has labels')
        self.dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=pipeline))
        self.classes = self.dataset.metainfo['classes']

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        label = self.dataset[index]['gt_seg_map']
        counts = np.bincount(label.ravel(), minlength=len(self.classes))[:len(self.classes)]
        return counts / max(counts.sum(), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--nproc', type=int, default=os.cpu_count(), help='processes')
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    shares = Shares(cfg)
    loader = DataLoader(
        shares, batch_size=None, num_workers=args.nproc, collate_fn=lambda share: share)
    columns = np.array(list(track(loader, 'counting'))).T
    sizes = {}
    for name, column in zip(shares.classes, columns):
        column = column[column > 0]
        sizes[name] = None if not len(column) else dict(
            lower=np.percentile(column, 10), mean=column.mean(), upper=np.percentile(column, 90),
            images=len(column))
    args.out.write_text(json.dumps(sizes, indent=1) + '\n')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
