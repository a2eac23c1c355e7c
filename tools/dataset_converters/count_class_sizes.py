"""Measure what each class covers of source images, for ClassSize and RareClassSampling.

    python tools/dataset_converters/count_class_sizes.py CONFIG OUT.json [--nproc N] [--pixels]

For each class OUT.json holds the 10th percentile (``lower``), the mean and the 90th percentile
(``upper``) of its share of the labelled pixels, over the images that contain it, and the number of
these ``images``; null for a class in no image. With ``--pixels`` it holds what RareClassSampling
reads instead: the names of the ``classes``, and each image's pixels of each of them. The labels are
those of CONFIG's ``train_dataloader``, uncropped; no image is read. OUT.json appears when all is
counted; what an interrupted run has counted is in OUT.json.part, where the next goes on.
"""
import argparse
import json
import os
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from rich.progress import track
from torch.utils.data import DataLoader, Dataset, Subset

from structseg_mmseg.datasets.rare_class_sampling import image_name
from structseg_mmseg.errors import InputError, one_sentence_errors


class Counts(Dataset):
    """The pixels of each class in each label: name of the image, list of num_classes."""

    def __init__(self, cfg: Config) -> None:
        dataset = cfg.train_dataloader.dataset
        if dataset.type == 'RareClassSampling':  # whose file may be the one to be written
            dataset = dataset.dataset
        pipeline = [transform for transform in dataset.pipeline
                    if transform.type in ('LoadAnnotations', 'MapLabelIds')]
        if not pipeline:
            raise InputError('train_dataloader.dataset.pipeline has no LoadAnnotations: give a '
                             'config whose source has labels')
        self.dataset = DATASETS.build(dict(dataset, pipeline=pipeline))
        self.classes = self.dataset.metainfo['classes']

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tuple[str, list]:
        label = self.dataset[index]['gt_seg_map']
        counts = np.bincount(label.ravel(), minlength=len(self.classes))[:len(self.classes)]
        return image_name(self.dataset, index), counts.tolist()


def count(counts: Counts, part: Path, nproc: int) -> Dict[str, list]:
    """All counts by name; a file has those of before, one a line, and gets the others."""
    header = json.dumps(counts.classes) + '\n'
    lines = part.read_text().splitlines(keepends=True) if part.exists() else []
    if not lines or lines[0] != header:  # of another config
        lines = [header]
    lines = [line for line in lines if line.endswith('\n')]  # the last may be cut
    found = dict(json.loads(line) for line in lines[1:])
    left = [index for index in range(len(counts)) if image_name(counts.dataset, index) not in found]
    loader = DataLoader(Subset(counts, left), batch_size=None, num_workers=nproc,
                        collate_fn=lambda item: item)
    part.write_text(''.join(lines))
    with part.open('a') as file:
        for name, of_image in track(loader, 'counting'):
            print(json.dumps([name, of_image]), file=file, flush=True)
            found[name] = of_image
    return {name: found[name] for name in (
        image_name(counts.dataset, index) for index in range(len(counts)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--nproc', type=int, default=os.cpu_count(), help='processes')
    parser.add_argument('--pixels', action='store_true', help='for RareClassSampling')
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    counts = Counts(cfg)
    part = args.out.with_name(f'{args.out.name}.part')
    images = count(counts, part, args.nproc)
    result: dict = dict(classes=list(counts.classes), images=images)
    if not args.pixels:
        pixels = np.array(list(images.values()))
        shares = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
        result = {}
        for name, column in zip(counts.classes, shares.T):
            column = column[column > 0]
            result[name] = None if not len(column) else dict(
                lower=np.percentile(column, 10), mean=column.mean(),
                upper=np.percentile(column, 90), images=len(column))
    text = json.dumps(result, indent=None if args.pixels else 1)
    new = args.out.with_name(f'{args.out.name}.new')
    new.write_text(text + '\n')
    new.replace(args.out)
    part.unlink()


if __name__ == '__main__':
    with one_sentence_errors():
        main()
