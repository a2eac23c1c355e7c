from typing import Any, Iterator, List

import mmcv
import mmengine
import mmseg
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

from structseg_mmseg.engine.runner.adaptation_train_loop import training_loaders
from structseg_mmseg.models.wrappers import unwrapped
from structseg_mmseg.version import __version__


@HOOKS.register_module()
class SummaryHook(Hook):
    """Logs in a dozen lines, before training starts, what is going to happen."""

    priority = 'LOW'  # after the checks

    def before_train(self, runner: Runner) -> None:
        """Log the lines."""
        runner.logger.info('\n' + '\n'.join(summary(runner)))


def summary(runner: Runner) -> List[str]:
    """Stack, data, model, optimizers, length and results of a training that is about to start."""
    model = unwrapped(runner.model)
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else (
        f'CPU, {torch.get_num_threads()} thread(s)')
    lines = [f'{stack()}; {name}, {get_world_size()} rank(s)']
    loaders = training_loaders(runner)
    for domain, loader in loaders.items():
        folders = ', '.join(dict.fromkeys(_roots(loader.dataset)))
        lines.append(f'{domain}: {len(loader.dataset)} images{folders and " in " + folders}, '
                     f'{loader.batch_size} at a time')
    if runner.cfg.get('target_dataloader') is not None and 'target' not in loaders:
        lines.append('target: target_dataloader is not used, as no term requires it')
    classes = getattr(runner.train_dataloader.dataset, 'metainfo', {}).get('classes', ())
    lines.append(f'{len(classes)} classes: {", ".join(classes)}')
    lines.append(', '.join(f'{key} {type(part).__name__} ({_size(part)})'
                           for key, part in model.named_children()
                           if key not in ('data_preprocessor', 'terms') and _count(part)))
    for key, term in getattr(model, 'terms', {}).items():
        weight = getattr(term, 'loss_weight', None)
        lines.append(f'term {key}: {type(term).__name__}'
                     + (f', weight {weight:g}' if weight is not None else '')
                     + (f' ({_size(term)})' if _count(term) else ''))
    wrappers = runner.optim_wrapper
    for key, wrapper in wrappers.items() if hasattr(wrappers, 'items') else [('model', wrappers)]:
        rates = sorted({group.get('initial_lr', group['lr']) for group in wrapper.param_groups})
        lines.append(f'optimizer of {key}: {type(wrapper.optimizer).__name__}, rate '
                     f'{", ".join(f"{rate:g}" for rate in rates)}')
    lines.append(f'iterations {runner.iter} to {runner.max_iters}; results in {runner.work_dir}')
    return lines


def stack() -> str:
    """The versions of this package and of what it stands on."""
    return (f'structseg_mmseg {__version__}, torch {torch.__version__}, mmcv {mmcv.__version__}, '
            f'mmengine {mmengine.__version__}, mmsegmentation {mmseg.__version__}')


def _roots(dataset: Any) -> Iterator[str]:
    """The folders of a data set and of those that it wraps."""
    if getattr(dataset, 'data_root', None):
        yield dataset.data_root
    for part in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if part is not None:
            yield from _roots(part)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _size(module: nn.Module) -> str:
    return f'{_count(module) / 1e6:.2f} M parameters'
