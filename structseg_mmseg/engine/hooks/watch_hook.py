from typing import Dict, Iterator, Optional, Set, Tuple

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from structseg_mmseg.bounds import Count
from structseg_mmseg.models.wrappers import unwrapped

# On game2cityscapes discriminators had 45 to 85 percent, whether their games gained or lost.
WON = 98.  # percent, on both domains
# Of the target's gradient at the encoder to the source's, as a mean over 100 iterations. On
# game2cityscapes the best games reached 0.16, at 0.2 one lost 2 points and others 21; on game2video
# the best reached 0.08.
PULL = 1 / 6
SURE = 0.99, 0.01  # shares of the pixels: of everything, of nothing
# A share of all iterations: from random heads a sound teacher is sure of nothing for a sixth of
# 600, and predictions lack classes.
PATIENCE = 0.2
# A class's share of the source's predictions, and what of it the target must have: of those of the
# source's labels on game2cityscapes, where sky differs by half, no model had less than a fifth.
COMMON, GONE = 0.05, 0.1
SEEN = 20  # images of each domain in an interval: enough for the share of a common class
FALL = 5.  # points below the best: sound runs fell by 3.4, as means of two logged batches


@HOOKS.register_module()
class WatchHook(Hook):
    """Warns when a training goes wrong, in one sentence, once for each reason.

    It judges by what is logged anyhow, as means over the last iterations, and by predictions that
    :class:`PanelHook` could draw, so that it costs little and changes nothing:

    - a discriminator has won: it tells both domains apart (``acc_source``, ``acc_target``);
    - a game pulls too hard: what it sends to the encoder (``target.grad_norm_seg``) is more than a
      sixth of what the segmentation does (``source.grad_norm_seg``);
    - a teacher is sure of every pixel, or of none (``confident``);
    - classes that are common among the source's predictions are gone from the target's, or from its
      pseudo-labels;
    - a score falls: the accuracy on the source's batches (``decode.acc_seg``), or a validation's
      mIoU.

    Args:
        interval (int): Iterations that a mean is taken over, and between two judgements.
    """

    priority = 'LOW'  # after the iteration has been logged

    def __init__(self, interval: Count = 100) -> None:
        self.interval = interval
        self.warned: Set[str] = set()
        self.best: Dict[str, float] = {}
        self.counts: Dict[str, Tensor] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        """Ask some iterations for their predictions."""
        if data_batch and {'source', 'target'} <= set(data_batch) and is_main_process() and (
                self.every_n_train_iters(runner, max(1, self.interval // SEEN))):
            data_batch.setdefault('pictures', {})

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        """Count predictions, and judge every ``interval``."""
        self._count((data_batch or {}).get('pictures') or {})
        if self.every_n_train_iters(runner, self.interval):
            for reason, sentence in self._judged(runner):
                self._warn(runner, reason, sentence)

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        """Compare with the best validation of the run."""
        if metrics and 'mIoU' in metrics:
            for reason, sentence in self._fallen('mIoU of the validation', metrics['mIoU']):
                self._warn(runner, reason, sentence)

    def _warn(self, runner: Runner, reason: str, sentence: str) -> None:
        if reason not in self.warned:
            self.warned.add(reason)
            runner.logger.warning(f'iteration {runner.iter + 1}: {sentence}')

    def _count(self, pictures: Dict[str, Dict[str, Tensor]]) -> None:
        """Add the classes of an iteration's first images."""
        seen = {name: pictures[name]['logits'].argmax(dim=0) for name in ('source', 'target')
                if 'logits' in pictures.get(name, {})}
        for of_pass in pictures.values():
            if 'pseudo-label' in of_pass:
                seen.setdefault('target', of_pass['pseudo-label'])
        for domain, classes in seen.items():
            counts = torch.bincount(classes.flatten(), minlength=256).double()
            self.counts[domain] = self.counts.get(domain, 0) + counts

    def _judged(self, runner: Runner) -> Iterator[Tuple[str, str]]:
        scalars = runner.message_hub.log_scalars
        means = {key.removeprefix('train/'): float(scalar.mean(self.interval))
                 for key, scalar in scalars.items() if key.startswith('train/')}
        terms = dict(getattr(unwrapped(runner.model), 'terms', {}).items())
        over = f'over the last {self.interval} iterations'
        late = runner.iter + 1 >= PATIENCE * runner.max_iters
        pull = means.get('target.grad_norm_seg', 0) / (
            means.get('source.grad_norm_seg') or 1)
        for key, mean in means.items():
            name = key.split('.')[-2] if '.' in key else ''
            other = means.get(key.replace('acc_source', 'acc_target'), 0)
            if key.endswith('.acc_source') and min(mean, other) > WON:
                yield key, (
                    f'the discriminator of {name} has won: {over} it took {mean:.0f} and '
                    f'{other:.0f} percent of source and target for what they are, so that nothing '
                    f'makes them alike; lower optim_wrapper.{name}.optimizer.lr')
            elif key.endswith('.acc_source') and pull > PULL:
                yield 'pull', (
                    f'the game of {name} pulls hard at the encoder: {over} its gradient there was '
                    f"{pull:.2f} of the segmentation's, where the best games had 0.16 at most; "
                    f'lower model.terms.{name}.loss_weight, or the dilations of its discriminator')
            if key.endswith('.confident') and getattr(terms.get(name), 'threshold', 0) > 0:
                yield from self._sure(name, mean, over, late)
            if key.endswith('decode.acc_seg'):
                yield from self._fallen("pixel accuracy on the source's batches", mean)
        if late:
            yield from self._gone(runner, terms)
        self.counts.clear()

    @staticmethod
    def _sure(name: str, share: float, over: str, late: bool) -> Iterator[Tuple[str, str]]:
        key = f'model.terms.{name}.threshold'
        if share > SURE[0]:
            yield f'{name} of everything', (
                f'the teacher of {name} was sure of {100 * share:.1f} percent of the pixels '
                f'{over}, its mistakes included, so that all of them are taught; raise {key}')
        elif share < SURE[1] and late:
            yield f'{name} of nothing', (
                f'the teacher of {name} was sure of {100 * share:.1f} percent of the pixels '
                f'{over}, so that it teaches nothing of the target; lower {key}, or set load_from '
                'to a checkpoint trained on the source')

    def _fallen(self, what: str, score: float) -> Iterator[Tuple[str, str]]:
        best = self.best[what] = max(score, self.best.get(what, score))
        if score < best - FALL:
            yield what, (
                f'the {what} has fallen from {best:.1f} to {score:.1f}; lower the rates of '
                'optim_wrapper.segmentor or the loss_weight of model.terms, or take the checkpoint '
                'from before')

    def _gone(self, runner: Runner, terms: dict) -> Iterator[Tuple[str, str]]:
        """Classes that the network finds in source images, and no more in target images."""
        shares = {domain: (counts / counts.sum()).tolist()
                  for domain, counts in self.counts.items()}
        gone = [f'{name} ({100 * there:.1f} percent of the source, {100 * here:.1f} of the target)'
                for name, there, here in zip(
                    runner.train_dataloader.dataset.metainfo['classes'],
                    shares.get('source', ()), shares.get('target', ()))
                if there > COMMON and here < GONE * there]
        if gone:
            yield 'gone', (
                f'hardly any target pixel is taken for {", ".join(gone)}; if the target shows such '
                'things, lower the loss_weight of '
                f'{" or ".join(f"model.terms.{name}" for name in terms)}')
