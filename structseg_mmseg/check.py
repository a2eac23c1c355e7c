"""What a training will use, and what is wrong with it, before it starts."""
import math
import os
import resource
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Set, Tuple

import numpy as np
import torch
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, RUNNERS
from rich.progress import track
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from structseg_mmseg.datasets import MapLabelIds, check_headers, evenly_spread
from structseg_mmseg.engine.hooks.summary_hook import stack
from structseg_mmseg.errors import InputError, sentence_of

DOMAINS = dict(source='train_dataloader', target='target_dataloader',
               validation='val_dataloader', test='test_dataloader')
SAMPLE = 20  # files opened per domain
LISTED = 20  # bad samples listed per domain, at most
ITERATIONS = 3  # the first one warms up


def check(cfg: Config, full: bool = False) -> List[str]:
    """Print what the training will use, and return a sentence for each problem.

    Args:
        cfg (Config): Config of the training.
        full (bool): Whether to open every file.

    Raises:
        InputError: If the length of the training is not given in iterations.
    """
    if 'max_iters' not in cfg.train_cfg:
        raise InputError('train_cfg has no max_iters: give a config that counts iterations')
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    show('stack', stack())
    show('device', torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU')
    problems, faulty = [], set()
    for domain, key in DOMAINS.items():
        if cfg.get(key) is None:
            continue
        if domain == 'test' and cfg[key] == cfg.get('val_dataloader'):
            show(domain, 'the same as validation')
            continue
        lines, found = check_data(cfg, key, full)
        if found:
            faulty.add(domain)
            lines.append(f'{len(found)} problem(s), see below')
        show(domain, *lines)
        problems += found
    with tempfile.TemporaryDirectory() as folder:
        runner, line = None, 'not tried, see below'
        with collected(problems, 'model or optimizers cannot be built'):
            runner = RUNNERS.build(trial_config(cfg, folder, faulty))
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if runner is not None and not faulty & {'source', 'target'}:
            with collected(problems, 'an iteration fails'):
                line = try_out(runner, cfg.train_cfg.max_iters)
        show('iteration', line)
    return list(dict.fromkeys(problems))  # the domains and the trial may meet the same one


def report(problems: List[str]) -> None:
    """Print the problems, if any, and end the process with status 1; else that there is none."""
    print()
    if not problems:
        print('no problem found')
        return
    for number, problem in enumerate(problems, 1):
        print(f'{number}. {problem}')
    sys.exit(1)


@contextmanager
def collected(problems: List[str], what: str,
              remedy: str = 'check the keys of the config') -> Iterator[None]:
    """Turn an error in the block into a sentence, appended to ``problems``.

    Args:
        problems (list[str]): The sentences.
        what (str): What failed, for an error that has no sentence of its own.
        remedy (str): What to do about it.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        problems.append(
            f'{what}: {torch.cuda.get_device_name()} has not enough memory: lower batch_size of '
            'train_dataloader and target_dataloader, Resize or crop to less, train with --amp, or '
            'set model.backbone.with_cp=True')
    except Exception as error:
        if os.environ.get('STRUCTSEG_TRACEBACK') == '1':
            raise
        problems.append(sentence_of(error) or (
            f'{what} ({type(error).__name__}: {textwrap.shorten(str(error), 300)}): {remedy}; '
            'STRUCTSEG_TRACEBACK=1 shows the traceback'))


def show(section: str, *lines: str) -> None:
    """Print wrapped lines after the name of their section."""
    for line in lines:
        print(textwrap.fill(line, 100, initial_indent=f'{section:<12}', subsequent_indent=' ' * 12,
                            break_long_words=False, break_on_hyphens=False), flush=True)
        section = ''


class Files(Dataset):
    """The samples of a data set as loaded, before the pipeline changes them.

    Each is a dict with ``problems``, a list of sentences, and as far as the sample can be read
    ``size``, (width, height) of the image, and ``counts``, the label's pixels per class
    (num_classes,).
    """

    def __init__(self, dataset: BaseSegDataset) -> None:
        self.dataset = dataset
        self.num_classes = len(dataset.metainfo['classes'])
        transforms = dataset.pipeline.transforms
        transforms[:] = [transform for transform in transforms if isinstance(
            transform, (LoadImageFromFile, LoadAnnotations, MapLabelIds))]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        info = self.dataset.get_data_info(index)
        found: Dict[str, Any] = dict(problems=[])
        with collected(found['problems'], f'{info["img_path"]} or its label cannot be read',
                       'restore the file'):
            sample = self.dataset[index]
            check_headers([info[key] for key in ('img_path', 'seg_map_path') if key in info],
                          getattr(self.dataset, 'uneven', ()))
            found['size'] = sample['img'].shape[1::-1]
            if 'gt_seg_map' in sample:
                found['counts'] = self._counts(sample['gt_seg_map'], info['seg_map_path'])
        return found

    def _counts(self, label: np.ndarray, path: str) -> np.ndarray:
        counts = np.bincount(label.ravel(), minlength=self.num_classes)
        unknown = np.flatnonzero(counts[self.num_classes:]) + self.num_classes
        unknown = unknown[unknown != self.dataset.ignore_index]
        if len(unknown):
            raise InputError(
                f'{path} is loaded with class {unknown[0]} of {self.num_classes}: '
                "map its ids to classes, as MapLabelIds of this package's pipelines does")
        return counts[:self.num_classes]


def check_data(cfg: Config, key: str, full: bool) -> Tuple[List[str], List[str]]:
    """Describe the data set of a loader: lines to show, and problems."""
    lines: List[str] = []
    problems: List[str] = []
    with collected(problems, f'{key}.dataset cannot be built'):
        dataset = DATASETS.build(cfg[key].dataset)
        parts = getattr(dataset, 'datasets', [dataset])
        if not all(isinstance(part, BaseSegDataset) for part in parts):
            return [f'{len(dataset)} images of a {type(dataset).__name__}, whose files are not '
                    'opened'], problems
        lines.append(f'{len(dataset)} images in '
                     f'{", ".join(part.data_prefix["img_path"] for part in parts)}')
        indices = evenly_spread(dataset, len(dataset) if full else SAMPLE)
        loader: Iterable[dict] = DataLoader(
            Subset(ConcatDataset([Files(part) for part in parts]), indices), batch_size=None,
            collate_fn=lambda found: found, num_workers=(os.cpu_count() or 1) if full else 0)
        found = list(track(loader, f'opening all files of {key}', len(indices), disable=not full))
        problems += [problem for sample in found for problem in sample['problems']]
        sizes = [sample['size'] for sample in found if 'size' in sample]
        if sizes:
            smallest, largest = (f'{width}x{height}' for width, height in (
                min(sizes, key=math.prod), max(sizes, key=math.prod)))
            lines.append(f'{len(sizes)} opened, {smallest}'
                         + (f' to {largest}' if smallest != largest else ''))
        counts = [sample['counts'] for sample in found if 'counts' in sample]
        lines.append(histogram(counts, dataset.metainfo['classes']) if counts else
                     'labels are not read')
    if len(problems) > LISTED:
        problems[LISTED:] = [f'{len(problems) - LISTED} more samples of {key} are bad: mend those '
                             'above, and check again']
    return lines, problems


def histogram(counts: List[np.ndarray], classes: Tuple[str, ...]) -> str:
    """Share of each class among the labels' valid pixels, in percent, and the absent classes."""
    total = np.sum(counts, axis=0)
    shares = ', '.join(f'{name} {100 * count / total.sum():.1f}'
                       for name, count in zip(classes, total) if count)
    absent = ', '.join(name for name, count in zip(classes, total) if not count)
    return f'{len(counts)} labels, percent of their pixels: {shares or "all are ignored"}' + (
        f'; in none of them: {absent}' if absent else '')


def trial_config(cfg: Config, folder: str, faulty: Set[str]) -> Config:
    """The config of a short run that writes to a folder only; ``faulty`` domains have problems."""
    trial = deepcopy(cfg)
    trial.work_dir, trial.experiment_name = folder, Path(folder).name
    trial.log_level, trial.launcher, trial.resume = 'ERROR', 'none', False
    trial.visualizer = dict(type='Visualizer', vis_backends=[])  # others may write elsewhere
    trial.default_hooks = dict(checkpoint=None, logger=None)
    trial.train_cfg.update(max_iters=ITERATIONS, val_begin=ITERATIONS + 1)
    if 'validation' in faulty:  # else InputCheckHook opens it
        trial.val_cfg = trial.val_dataloader = trial.val_evaluator = None
    for key in ('train_dataloader', 'target_dataloader'):
        if trial.get(key) is not None:
            trial[key].update(num_workers=0, persistent_workers=False)
            trial[key].pop('prefetch_factor', None)
    return trial


def try_out(runner: Runner, max_iters: int) -> str:
    """Train a runner of :func:`trial_config`, and say what ``max_iters`` iterations will take."""
    runner.train()
    total, loading = (runner.message_hub.get_scalar(f'train/{name}').data[0]
                      for name in ('time', 'data_time'))
    seconds = (total - loading)[1:].mean()
    if torch.cuda.is_available():
        peak = f'{torch.cuda.max_memory_allocated() / 1e6:,.1f} MB of the GPU'
    else:  # the kernel counts in KiB
        peak = f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:,.1f} MB'
    return (f'{seconds:.3g} s, with {peak} at most; {max_iters} iterations take '
            f'{timedelta(seconds=round(max_iters * seconds))}, validations and waiting for data '
            'not included')
