"""Check a training before it starts: data, weights, disk, memory and time.

    python tools/check.py CONFIG [--full] [--work-dir DIR] [--cfg-options KEY=VALUE ...]

It opens 20 files of each domain, spread over the set (with ``--full`` all of them), builds model
and optimizers, and trains 3 iterations in a temporary folder, from what weights are on this
machine: it downloads nothing, and writes nowhere else. It ends with ``no problem found``, or with
the problems, numbered, and exit status 1.
"""
import argparse
import math
import os
import resource
import shutil
import statistics
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Iterator, List, Optional, Set, Tuple, Union
from urllib.parse import urlsplit

import numpy as np
import torch
from analysis_tools.benchmark_step import synchronize
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config, DictAction
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import (get_deprecated_model_names, get_external_models,
                                        get_torchvision_models)
from mmengine.utils import ProgressBar, track_iter_progress
import structseg_mmseg  # noqa: F401  before mmseg, which it imports without noise
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, RUNNERS
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from structseg_mmseg.datasets import LabelIdsDataset, MapLabelIds, check_headers
from structseg_mmseg.engine.hooks.summary_hook import stack
from structseg_mmseg.errors import InputError, one_sentence_errors

DOMAINS = dict(source='train_dataloader', target='target_dataloader',
               validation='val_dataloader', test='test_dataloader')
SAMPLE = 20  # files that are opened of a domain
LISTED = 20  # bad files of a domain, at most
ITERATIONS = 3  # the first is to warm up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('--full', action='store_true', help='open every image and label')
    parser.add_argument('--work-dir', help="the training's, as tools/train.py takes it")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{args.config.stem}'
    problems = check(cfg, args.full)
    print()
    if not problems:
        print('no problem found')
        return
    for number, problem in enumerate(problems, 1):
        print(f'{number}. {problem}')
    sys.exit(1)


def check(cfg: Config, full: bool = False) -> List[str]:
    """Print what the training is going to meet.

    Args:
        cfg (Config): Its config, with ``work_dir``.
        full (bool): Whether to open every file.

    Returns:
        list[str]: A sentence for each problem.

    Raises:
        InputError: If the training is not counted in iterations.
    """
    if 'max_iters' not in cfg.train_cfg:
        raise InputError('train_cfg has no max_iters: give a config that counts iterations')
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    show('stack', stack())
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    show('device', *(f'{gpu.name}, {megabytes(gpu.total_memory)}' for gpu in gpus),
         f'{os.cpu_count()} CPU core(s), {torch.get_num_threads()} thread(s)')
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
        trial = trial_config(cfg, folder, faulty)
        problems += check_weights(trial)
        size = None
        with collected(problems, 'model or optimizers cannot be built'):
            runner = RUNNERS.build(trial)
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            size = checkpoint_bytes(runner)
        problems += check_disk(cfg, size)
        lines = ['not tried, see below']
        if size is not None and not faulty & {'source', 'target'}:
            with collected(problems, 'an iteration fails'):
                lines = [try_out(runner, cfg.train_cfg.max_iters)]
        show('iteration', *lines)
    return list(dict.fromkeys(problems))  # domains and trial may meet the same


@contextmanager
def collected(problems: List[str], what: str,
              remedy: str = 'check the keys of the config') -> Iterator[None]:
    """End a block on a mistake with one sentence more among the problems.

    Args:
        problems (list[str]): The sentences.
        what (str): What has happened, for an error that has no sentence of its own.
        remedy (str): What to do about it.
    """
    try:
        with one_sentence_errors():
            yield
    except SystemExit as stop:
        problems.append(stop.code.removeprefix('error: '))
    except torch.OutOfMemoryError:
        problems.append(
            f'{what}, as the memory of {torch.cuda.get_device_name()} does not suffice: lower '
            'batch_size of train_dataloader and target_dataloader, Resize or crop to less, train '
            'with --amp, or set model.backbone.with_cp=True')
    except Exception as error:
        if os.environ.get('STRUCTSEG_TRACEBACK') == '1':
            raise
        problems.append(f'{what} ({type(error).__name__}: {textwrap.shorten(str(error), 300)}): '
                        f'{remedy}; STRUCTSEG_TRACEBACK=1 shows the place')


def show(section: str, *lines: str) -> None:
    """Print lines, wrapped, behind the name of their section."""
    for line in lines:
        print(textwrap.fill(line, 100, initial_indent=f'{section:<12}', subsequent_indent=' ' * 12,
                            break_long_words=False, break_on_hyphens=False), flush=True)
        section = ''


def megabytes(number: float) -> str:
    return f'{number / 1e6:,.1f} MB'


class Files(Dataset):
    """The samples of a data set as its pipeline loads them, before it changes them.

    Each is a dict of ``problems``, sentences, and what could be found out: ``size``, (width,
    height) of the image, and ``counts``, pixels of each class in the label, (num_classes,), if the
    pipeline loads labels.
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
        found = dict(problems=[])
        with collected(found['problems'], f'{info["img_path"]} or its label cannot be read',
                       'restore the file'):
            sample = self.dataset[index]
            check_headers([info[key] for key in ('img_path', 'seg_map_path') if key in info],
                          getattr(self.dataset, 'uneven', ()))
            found['size'] = sample['img'].shape[1::-1]
            if 'gt_seg_map' in sample:
                found['counts'] = self._counts(sample['gt_seg_map'], info, found['size'])
        return found

    def _counts(self, label: np.ndarray, info: dict, size: Tuple[int, int]) -> np.ndarray:
        # This package's have looked themselves, and know which pairs may differ.
        if not isinstance(self.dataset, LabelIdsDataset) and label.shape[1::-1] != size:
            raise InputError(
                f'{info["seg_map_path"]} has {"x".join(map(str, label.shape[1::-1]))} pixels where '
                f'its image has {"x".join(map(str, size))}: give a label of the same size')
        counts = np.bincount(label.ravel(), minlength=self.num_classes)
        outside = np.flatnonzero(counts[self.num_classes:]) + self.num_classes
        outside = outside[outside != self.dataset.ignore_index]
        if len(outside):
            raise InputError(
                f'{info["seg_map_path"]} is loaded with class {outside[0]} of {self.num_classes}: '
                "map its ids to classes, as MapLabelIds of this package's pipelines does")
        return counts[:self.num_classes]


def check_data(cfg: Config, key: str, full: bool) -> Tuple[List[str], List[str]]:
    """What a loader's data set holds, in lines, and its problems."""
    lines, problems = [], []
    with collected(problems, f'{key}.dataset cannot be built'):
        dataset = DATASETS.build(cfg[key].dataset)
        number = len(dataset)
        parts = getattr(dataset, 'datasets', [dataset])
        if not all(isinstance(part, BaseSegDataset) for part in parts):
            lines.append(f'{number} images of a {type(dataset).__name__}, whose files are not '
                         'looked at')
            return lines, problems
        lines.append(f'{number} images in '
                     f'{", ".join(part.data_prefix["img_path"] for part in parts)}')
        indices = range(number) if full else np.linspace(
            0, number - 1, min(SAMPLE, number), dtype=int)
        loader = DataLoader(
            Subset(ConcatDataset([Files(part) for part in parts]), indices), batch_size=None,
            collate_fn=lambda found: found, num_workers=os.cpu_count() if full else 0)
        found = list(track_iter_progress((loader, len(indices))) if full else loader)
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
    """The share of each class in some labels.

    Args:
        counts (list[np.ndarray]): Of each label, pixels of each class, (num_classes,).
        classes (tuple[str]): Their names.

    Returns:
        str: In percent of the pixels that are not ignored, and the classes that no label holds.
    """
    total = np.sum(counts, axis=0)
    shares = ', '.join(f'{name} {100 * count / total.sum():.1f}'
                       for name, count in zip(classes, total) if count)
    absent = ', '.join(name for name, count in zip(classes, total) if not count)
    return f'{len(counts)} labels, percent of their pixels: {shares or "all are ignored"}' + (
        f'; in none of them: {absent}' if absent else '')


def trial_config(cfg: Config, folder: str, faulty: Set[str]) -> Config:
    """The config of some iterations that leave nothing outside a folder.

    Args:
        cfg (Config): The training's.
        folder (str): The folder.
        faulty (set[str]): Domains that have problems.
    """
    trial = deepcopy(cfg)
    trial.work_dir, trial.experiment_name = folder, Path(folder).name
    trial.log_level, trial.launcher, trial.resume = 'ERROR', 'none', False
    trial.visualizer = None  # its backends may write elsewhere
    trial.default_hooks = dict(checkpoint=None, logger=None)
    trial.train_cfg.update(max_iters=ITERATIONS, val_begin=ITERATIONS + 1)
    if 'validation' in faulty:  # else InputCheckHook looks at it
        trial.val_cfg = trial.val_dataloader = trial.val_evaluator = None
    for key in ('train_dataloader', 'target_dataloader'):
        if trial.get(key) is not None:  # loading is not what is timed
            trial[key].update(num_workers=0, persistent_workers=False)
            trial[key].pop('prefetch_factor', None)
    return trial


def check_weights(trial: Config) -> List[str]:
    """Show what the training starts from; what is not on this machine the trial does without.

    Returns:
        list[str]: The problems.
    """
    lines, problems = [], []
    starts = list(pretrained(trial.model, 'model'))
    if trial.get('load_from') is not None:
        starts.append((trial, 'load_from', 'load_from', trial.load_from))
    for owner, key, name, checkpoint in starts:
        with collected(problems, f'{name} names {checkpoint}, which cannot be found'):
            path, url = locate(checkpoint)
            if path.is_file():
                lines.append(f'{name}: {checkpoint}, in {path}')
                continue
            if url is None:
                raise InputError(f'{name} names {checkpoint}, which is no file: check the path, or '
                                 f'set {name}=None to start without')
            lines.append(f'{name}: {checkpoint}, to be downloaded from {url}')
        owner[key] = None
    if problems:
        lines.append(f'{len(problems)} problem(s), see below')
    show('weights', *lines or ['the config names no file'])
    return problems


def pretrained(cfg: Union[dict, list, tuple], name: str) -> Iterator[Tuple[dict, str, str, str]]:
    """Everything in a model's config that starts from a file: dict, key, full key, checkpoint."""
    for key, value in cfg.items() if isinstance(cfg, dict) else enumerate(cfg):
        if key == 'init_cfg':
            for init in value if isinstance(value, (list, tuple)) else [value or {}]:
                if init.get('type') == 'Pretrained':
                    yield cfg, key, f'{name}.{key}', init['checkpoint']
        elif key == 'pretrained' and isinstance(value, str):
            yield cfg, key, f'{name}.{key}', value
        elif isinstance(value, (dict, list, tuple)):
            yield from pretrained(value, f'{name}.{key}')


def locate(checkpoint: str) -> Tuple[Path, Optional[str]]:
    """Where mmengine will look for a checkpoint: the file, and the URL where it is to come from.

    Raises:
        InputError: If it is one of a model zoo that has none of this name.
    """
    scheme, _, name = checkpoint.partition('://')
    zoo = None
    if scheme in ('torchvision', 'modelzoo'):
        try:
            zoo = get_torchvision_models()
        except ImportError:
            raise InputError(f'{checkpoint} needs a package: pip install torchvision') from None
    elif scheme in ('open-mmlab', 'openmmlab'):
        zoo = get_external_models()
        name = get_deprecated_model_names().get(name, name)
    if zoo is not None:
        if name not in zoo:
            raise InputError(f'there is no {checkpoint}: check the spelling')
        checkpoint = zoo[name]
    if not checkpoint.startswith(('http://', 'https://')):
        return Path(checkpoint).expanduser(), None
    file_name = Path(urlsplit(checkpoint).path).name
    return Path(torch.hub.get_dir(), 'checkpoints', file_name), checkpoint


def checkpoint_bytes(runner: Runner) -> int:
    """What the tensors of a checkpoint take: weights, averaged weights, optimizer states."""
    states = [runner.model.state_dict()]
    states += [states[0] for hook in runner.hooks if isinstance(hook, EMAHook)]
    wrappers = runner.optim_wrapper
    for wrapper in wrappers.values() if hasattr(wrappers, 'values') else [wrappers]:
        # An optimizer makes its states when it steps first.
        for group in wrapper.param_groups:
            for parameter in group['params']:
                parameter.grad = torch.zeros_like(parameter)
        wrapper.optimizer.step()
        wrapper.zero_grad()
        states += wrapper.optimizer.state.values()
        wrapper.optimizer.state.clear()
    return sum(value.nbytes for state in states for value in state.values()
               if isinstance(value, torch.Tensor))


def check_disk(cfg: Config, size: Optional[int]) -> List[str]:
    """Show what room the checkpoints will take.

    Args:
        cfg (Config): The training's config.
        size (int, optional): Bytes of a checkpoint; None if they are not known.

    Returns:
        list[str]: The problems.
    """
    work_dir = Path(cfg.work_dir).absolute()
    place = next(path for path in (work_dir, *work_dir.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        show('work dir', f'{cfg.work_dir}, see below')
        return [f'{cfg.work_dir} cannot be written, for {place} is '
                f'{"read-only" if place.is_dir() else "no folder"}: give another --work-dir']
    free = shutil.disk_usage(place).free
    if size is None:
        show('work dir', f'{cfg.work_dir}, {megabytes(free)} free')
        return []
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    interval, keep = hook.get('interval', -1), hook.get('max_keep_ckpts', -1)
    number = math.ceil(cfg.train_cfg.max_iters / interval) if interval > 0 else 1
    if keep > 0:
        number = min(number, keep + 1)  # one more while it is written
    show('work dir', f'{cfg.work_dir}, {number} checkpoint(s) of {megabytes(size)} each, '
         f'{megabytes(free)} free')
    if number * size <= free:
        return []
    return [f'{number} checkpoint(s) of {megabytes(size)} do not fit the {megabytes(free)} that '
            f'are free in {place}: make room, give another --work-dir, or lower '
            'default_hooks.checkpoint.max_keep_ckpts']


class Stopwatch(Hook):
    """Takes the seconds of each training step, without the loading of its batch."""

    def __init__(self) -> None:
        self.seconds: List[float] = []
        self.progress = ProgressBar(ITERATIONS)

    def before_train_iter(self, *args, **kwargs) -> None:
        synchronize()
        self._begin = time.perf_counter()

    def after_train_iter(self, *args, **kwargs) -> None:
        synchronize()
        self.seconds.append(time.perf_counter() - self._begin)
        self.progress.update()


def try_out(runner: Runner, max_iters: int) -> str:
    """Train some iterations.

    Args:
        runner (Runner): A runner of :func:`trial_config`.
        max_iters (int): The iterations of the training that it stands for.

    Returns:
        str: Seconds and memory of one, and what the training is going to take.
    """
    watch = Stopwatch()
    runner.register_hook(watch, 'LOWEST')
    runner.train()
    print()  # ends the bar's line
    seconds = statistics.mean(watch.seconds[1:])
    if torch.cuda.is_available():
        peak = f'{megabytes(torch.cuda.max_memory_allocated())} of the GPU'
    else:
        peak = megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # KiB
    return (f'{seconds:.3g} s, with {peak} at most; {max_iters} iterations take '
            f'{timedelta(seconds=round(max_iters * seconds))}, validations and waiting for data '
            'not counted')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
