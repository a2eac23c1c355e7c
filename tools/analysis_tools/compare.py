"""Compare tested models by a table of IoU by class, a bar chart and a picture of predictions.

    python tools/analysis_tools/compare.py WORK_DIR [WORK_DIR ...] [--bars FILE]
        [--picture FILE [--samples N] [--images NAME ... | --changed]]

Each WORK_DIR was written by tools/train.py and tools/test.py, or by tools/ablation.py. The picture
shows images of the test set with their ground truth and the prediction of each model's last
checkpoint. The images are evenly spread, named, or those that changed most from the first model to
the last, by their own mIoU: half of them for the better, half for the worse.
"""
import argparse
import json
import os
import re
from pathlib import Path
from typing import Dict, List

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import find_latest_checkpoint
from mmseg.apis import inference_model, init_model
from mmseg.datasets import BaseSegDataset
from mmseg.evaluation import IoUMetric
from mmseg.models import BaseSegmentor
from mmseg.registry import DATASETS
from rich.progress import track

from structseg_mmseg.datasets import evenly_spread
from structseg_mmseg.engine.checkpoint import load_safely
from structseg_mmseg.errors import InputError, one_sentence_errors
from structseg_mmseg.visualization import draw_bars

TILE = 1.8  # inches that an image is wide in the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('work_dirs', type=Path, nargs='+')
    parser.add_argument('--bars', type=Path, help='PNG file to write: IoU by class')
    parser.add_argument('--picture', type=Path, help='PNG file to write')
    parser.add_argument('--samples', type=int, default=3,
                        help='images in the picture (default: %(default)s)')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--images', nargs='+', metavar='NAME',
                       help='the images, by their files\' names (default: evenly spread ones)')
    which.add_argument('--changed', action='store_true',
                       help='the images where the last model differs most from the first')
    args = parser.parse_args()
    if (args.images or args.changed) and not args.picture:
        raise InputError('--images and --changed choose what --picture shows: give --picture FILE')
    if args.changed and len(args.work_dirs) < 2:
        raise InputError('--changed compares the last model with the first: give two work dirs or '
                         'more')
    if args.samples < 1:
        raise InputError(f'--samples is {args.samples}: give 1 or more')
    parent = os.path.commonpath([folder.absolute().parent for folder in args.work_dirs])
    names = [os.path.relpath(folder, parent) for folder in args.work_dirs]
    results = dict(zip(names, map(test_results, args.work_dirs)))
    classes = classes_of(results)
    print(table(results, classes))
    for path in (args.bars, args.picture):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    if args.bars:
        draw_bars(classes, {name: ([result[f'IoU.{each}'] for each in classes], None)
                            for name, result in results.items()}, args.bars)
    if args.picture:
        load_safely()
        configs = [Config.fromfile(next(folder.glob('*.py'))) for folder in args.work_dirs]
        init_default_scope('mmseg')
        dataset = DATASETS.build(configs[0].test_dataloader.dataset)
        indices = (indices_of(dataset, args.images) if args.images
                   else evenly_spread(dataset, args.samples))
        models = [init_model(config, last_checkpoint(folder), device=get_device())
                  for config, folder in zip(configs, args.work_dirs)]
        rows = (most_changed(dataset, models[0], models[-1], args.samples) if args.changed
                else [Row(dataset, index) for index in indices])
        draw_picture(rows, dict(zip(names, models)), dataset, args.picture)
        print(f'\n{args.picture}: image, truth, {", ".join(names)}')
        for row in rows:
            print('  ' + row.label.replace('\n', ', '))


def test_results(work_dir: Path) -> Dict[str, float]:
    """Test metrics of a work dir's last checkpoint, in percent.

    They are read from results.json of tools/analysis_tools/evaluate.py or the newest file of
    tools/test.py, and are those of the averaged weights if there are any.
    """
    if (work_dir / 'results.json').exists():
        results = json.loads((work_dir / 'results.json').read_text())
        return results.get('averaged', results['last'])['test']
    for path in sorted(work_dir.glob('*/*.json'), reverse=True):
        results = json.loads(path.read_text().splitlines()[-1])
        if 'mIoU' in results:
            return results
    raise InputError(f'{work_dir} holds no test results: run tools/test.py with --work-dir '
                     f'{work_dir}')


def classes_of(results: Dict[str, Dict[str, float]]) -> List[str]:
    """The classes that all models were tested on."""
    (first, result), *others = results.items()
    classes = [key.removeprefix('IoU.') for key in result if key.startswith('IoU.')]
    for name, result in others:
        for each in classes:
            if f'IoU.{each}' not in result:
                raise InputError(f'{first} was tested on the class {each}, {name} was not: compare '
                                 'models that were tested on the same classes')
    return classes


def table(results: Dict[str, Dict[str, float]], classes: List[str]) -> str:
    """A Markdown table, a row for each model."""
    rows = [['', 'mIoU', *classes]]
    for name, result in results.items():
        rows.append([name, *(f'{result[key]:.1f}'
                             for key in ('mIoU', *(f'IoU.{each}' for each in classes)))])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [' | '.join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    lines.insert(1, ' | '.join('-' * (width - 1) + ':' for width in widths))
    return '\n'.join(f'| {line} |' for line in lines)


def last_checkpoint(work_dir: Path) -> str:
    """The last checkpoint that mmengine saved, even if the work dir was moved since."""
    path = find_latest_checkpoint(str(work_dir))
    if path is None:
        raise InputError(f'{work_dir} holds no checkpoint: run tools/train.py with --work-dir '
                         f'{work_dir}')
    return str(work_dir / Path(path).name)


class Row:
    """An image of the test set, its ground truth and the predictions of models.

    Attributes:
        name (str): Name of its file without the data set's suffix.
        image (np.ndarray): BGR, uint8 (H, W, 3).
        truth (torch.Tensor): Class of each pixel (H, W).
        scores (Tuple[float, float], optional): Its own mIoU by the first and by the last model.
    """

    def __init__(self, dataset: BaseSegDataset, index: int) -> None:
        sample = dataset[index]['data_samples']
        self.name = image_name(dataset, sample.img_path)
        self.image = cv2.imread(sample.img_path)
        self.truth = sample.gt_sem_seg.data[0]
        self.scores = None
        self._dataset = dataset
        self._predictions = {}

    def prediction(self, model: BaseSegmentor) -> torch.Tensor:
        """Class of each pixel, uint8 (H, W); each model runs at most once."""
        if model not in self._predictions:
            sample = inference_model(model, self.image)
            self._predictions[model] = sample.pred_sem_seg.data[0].to('cpu', torch.uint8)
        return self._predictions[model]

    def miou(self, model: BaseSegmentor) -> float:
        """The mIoU of this image alone, in percent, over the classes in truth or prediction."""
        intersection, union, *_ = IoUMetric.intersect_and_union(
            self.prediction(model), self.truth, len(self._dataset.metainfo['classes']),
            getattr(self._dataset, 'ignore_index', 255))
        return 100 * (intersection / union).nanmean().item()

    @property
    def label(self) -> str:
        if self.scores is None:
            return self.name
        first, last = self.scores
        return f'{self.name}\nmIoU {first:.1f} to {last:.1f} ({last - first:+.1f})'


def image_name(dataset: BaseSegDataset, path: str) -> str:
    # A ConcatDataset has no suffix of its own.
    return Path(path).name.removesuffix(getattr(dataset, 'img_suffix', Path(path).suffix))


def indices_of(dataset: BaseSegDataset, images: List[str]) -> List[int]:
    indices = {image_name(dataset, dataset.get_data_info(index)['img_path']): index
               for index in range(len(dataset))}
    names = [image_name(dataset, image) for image in images]
    for name in names:
        if name not in indices:
            raise InputError(f'the test set has no image {name}: give --images names such as '
                             f'{next(iter(indices))}')
    return [indices[name] for name in names]


def most_changed(dataset: BaseSegDataset, first: BaseSegmentor, last: BaseSegmentor,
                 number: int) -> List[Row]:
    """The images where the last model gains most, then as many where it loses most.

    Both models see the test set once; no more images than these are kept in memory.
    """
    rows = []
    for index in track(range(len(dataset)), 'comparing'):
        row = Row(dataset, index)
        row.scores = row.miou(first), row.miou(last)
        rows.append(row)
        # An image without a valid pixel has no score, and no gain.
        rows.sort(key=lambda row: -np.nan_to_num(row.scores[1] - row.scores[0]))
        if len(rows) > number:
            del rows[(number + 1) // 2]
    return rows


def draw_picture(rows: List[Row], models: Dict[str, BaseSegmentor], dataset: BaseSegDataset,
                 path: Path) -> None:
    """Draw a row per sample: the image, its ground truth and the prediction of each model."""
    colours = dataset.metainfo['palette']
    palette = np.zeros((256, 3), np.uint8)  # ignored pixels stay black
    palette[:len(colours)] = colours
    # Break long names into lines after a separator.
    titles = ['image', 'truth',
              *(re.sub(r'(.{9,22}[-_/])(?=.{3})', r'\1\n', name) for name in models)]
    height, width = rows[0].truth.shape
    figure = Figure(figsize=(TILE * (len(titles) + 1), TILE * height / width * len(rows) + 1),
                    layout='compressed')
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles):
        axes.set_title(title, fontsize=9)
    for line, row in zip(grid, rows):
        maps = [row.truth, *map(row.prediction, models.values())]
        for axes, tile in zip(line, [row.image[..., ::-1], *(palette[each] for each in maps)]):
            axes.imshow(tile)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(row.label, fontsize=9, rotation=0, ha='right', va='center')
    patches = [Patch(facecolor=np.divide(colour, 255), edgecolor='grey', label=name)
               for name, colour in zip(dataset.metainfo['classes'], colours)]
    figure.legend(handles=[*patches, Patch(color='black', label='ignored')], fontsize=9,
                  loc='outside lower center', ncols=len(titles) + 2)
    figure.savefig(path, dpi=200, bbox_inches='tight')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
