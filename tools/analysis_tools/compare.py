"""Compare trained and tested models: a table of mIoU by class and a picture.

    python tools/analysis_tools/compare.py WORK_DIR [WORK_DIR ...] [--picture FILE]

Each WORK_DIR is one that tools/train.py and tools/test.py, or tools/ablation.py, have written to.
The picture shows images of the test set with their truth and what the last checkpoint of each model
makes of them.
"""
import argparse
import json
import os
from pathlib import Path
from typing import Dict

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import find_latest_checkpoint
from mmseg.apis import inference_model, init_model
from mmseg.registry import DATASETS

from structseg_mmseg.errors import InputError, one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('work_dirs', type=Path, nargs='+')
    parser.add_argument('--picture', type=Path, help='PNG file to write')
    parser.add_argument('--samples', type=int, default=3, help='images in the picture')
    args = parser.parse_args()
    parent = os.path.commonpath([folder.absolute().parent for folder in args.work_dirs])
    names = [os.path.relpath(folder, parent) for folder in args.work_dirs]
    print(table(dict(zip(names, map(test_results, args.work_dirs)))))
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(args.picture), picture(args.work_dirs, args.samples))
        print(f'\n{args.picture}: image, truth, {", ".join(names)}')


def test_results(work_dir: Path) -> Dict[str, float]:
    """What a work dir's last checkpoint gives on the test set, in percent.

    It is results.json of tools/analysis_tools/evaluate.py or the newest file of tools/test.py; of
    a training with averaged weights both are those of the average.
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


def table(results: Dict[str, Dict[str, float]]) -> str:
    """A Markdown table, a row for each model."""
    classes = [key for key in next(iter(results.values())) if key.startswith('IoU.')]
    rows = [['', 'mIoU', *(key.removeprefix('IoU.') for key in classes)]]
    for name, result in results.items():
        rows.append([name, *(f'{result[key]:.1f}' for key in ('mIoU', *classes))])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [' | '.join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    lines.insert(1, ' | '.join('-' * (width - 1) + ':' for width in widths))
    return '\n'.join(f'| {line} |' for line in lines)


def last_checkpoint(work_dir: Path) -> str:
    """Where mmengine saved last, even if the work dir was moved since."""
    path = find_latest_checkpoint(str(work_dir))
    if path is None:
        raise InputError(f'{work_dir} holds no checkpoint: run tools/train.py with --work-dir '
                         f'{work_dir}')
    return str(work_dir / Path(path).name)


def picture(work_dirs, samples: int) -> np.ndarray:
    """BGR: a row for each sample, a column for image, truth and each model."""
    configs = [Config.fromfile(next(folder.glob('*.py'))) for folder in work_dirs]
    models = [init_model(config, last_checkpoint(folder), device='cpu')
              for config, folder in zip(configs, work_dirs)]
    init_default_scope('mmseg')
    dataset = DATASETS.build(configs[0].test_dataloader.dataset)
    palette = np.full((256, 3), 0, np.uint8)  # what is ignored stays black
    colours = np.array(dataset.metainfo['palette'], np.uint8)[:, ::-1]
    palette[:len(colours)] = colours
    rows = []
    for index in np.linspace(0, len(dataset) - 1, samples).round().astype(int):
        sample = dataset[index]['data_samples']
        truth = sample.gt_sem_seg.data[0].numpy()
        image = cv2.imread(sample.img_path)
        tiles = [image, palette[truth]]
        tiles += [palette[inference_model(model, image).pred_sem_seg.data[0].cpu().numpy()]
                  for model in models]
        rows.append(np.hstack([cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT,
                                                  value=(255, 255, 255)) for tile in tiles]))
    return np.vstack(rows)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
