"""Resize a config's training images once instead of in every epoch.

    python tools/dataset_converters/cache_resized.py CONFIG FOLDER [--nproc N]
    python tools/train.py FOLDER/CONFIG

The tool writes the output of the training pipelines' ``Resize`` to FOLDER, a new one, as PNG, and
finally a config named like CONFIG that reads it from there. Models see the same bytes; loading
takes less than half the time. Test images stay where they are.
"""
import argparse
import os
from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from structseg_mmseg.errors import InputError, one_sentence_errors


class Cache(Dataset):
    """Reading a sample writes it, resized, to ``folder``.

    ``changes`` are those of a config's data set that reads from there.
    """

    def __init__(self, cfg: Config, loader: str, folder: Path) -> None:
        pipeline = cfg[loader].dataset.pipeline
        types = [transform.type for transform in pipeline]
        if 'Resize' not in types:
            raise InputError(f'{loader}.dataset.pipeline has no Resize: there is nothing to cache')
        pipeline = pipeline[:types.index('Resize') + 1]
        for transform in pipeline:
            if transform.type not in ('LoadImageFromFile', 'LoadAnnotations', 'MapLabelIds',
                                      'Resize'):
                raise InputError(f'{loader}.dataset.pipeline has {transform.type} before Resize, '
                                 'which a cache would apply once for all epochs: move it behind')
        # Ids are mapped when read from the cache: pixel by pixel, so it makes no difference to
        # Resize.
        self.transforms = Compose([t for t in pipeline if t.type != 'MapLabelIds'])
        self.resize = Compose([pipeline[-1]])
        self.dataset = DATASETS.build(cfg[loader].dataset)
        self.folder = folder
        # Key of the path, of the array, and of the suffix; the folder in the cache.
        self.kinds = [('img_path', 'img', 'img_suffix', 'images')]
        if 'LoadAnnotations' in types:
            self.kinds.append(('seg_map_path', 'gt_seg_map', 'seg_map_suffix', 'labels'))
        self.changes = dict(data_root=str(folder), data_prefix={})
        for path, _, suffix, name in self.kinds:
            self.changes['data_prefix'][path] = name
            self.changes[suffix] = getattr(self.dataset, suffix).rpartition('.')[0] + '.png'
        if self.dataset.ann_file:
            self.changes['ann_file'] = os.path.abspath(self.dataset.ann_file)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> int:
        info = self.dataset.get_data_info(index)
        results = self.transforms(dict(info))
        again = self.resize(dict(results))
        for path, key, suffix, name in self.kinds:
            array = results[key]
            if array.dtype != np.uint8 or not np.array_equal(array, again[key]):
                raise InputError(
                    f'{info[path]} does not survive a second Resize or is not of 8 bits: give '
                    'Resize a fixed scale (scale=(width, height), keep_ratio=False)')
            relative = os.path.relpath(info[path], self.dataset.data_prefix[path])
            stem = relative[:len(relative) - len(getattr(self.dataset, suffix))]
            mmcv.imwrite(array, str(self.folder / name / (stem + self.changes[suffix])))
        return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('folder', type=Path, help='a new folder')
    parser.add_argument('--nproc', type=int, default=os.cpu_count(), help='processes')
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    folder = args.folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f'{folder} is not empty: give a new folder')
    caches = {loader: Cache(cfg, loader, folder / name)
              for loader, name in (('train_dataloader', 'source'), ('target_dataloader', 'target'))
              if cfg.get(loader) is not None}
    for loader, cache in caches.items():
        for _ in track(DataLoader(cache, batch_size=None, num_workers=args.nproc), loader):
            pass
    # Written last, so that no config points to half a cache.
    lines = [f'_base_ = {str(args.config.absolute())!r}']
    lines += [f'{loader} = dict(dataset={cache.changes!r})' for loader, cache in caches.items()]
    leaf = folder / args.config.name
    leaf.write_text('\n'.join(lines) + '\n')
    print(f'python tools/train.py {leaf}')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
