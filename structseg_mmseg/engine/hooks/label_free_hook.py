from typing import Dict, Optional, Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import DATASETS, HOOKS
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from structseg_mmseg.bounds import Count
from structseg_mmseg.datasets import evenly_spread
from structseg_mmseg.evaluation import LabelFreeMetric


@HOOKS.register_module()
class LabelFreeHook(Hook):
    """Adds the scores of :class:`LabelFreeMetric` to those of each validation and test.

    Each image passes a second time, mirrored. ``default_hooks.checkpoint.save_best`` may name one
    of the scores, with ``rule='greater'``.

    Args:
        dataloader (dict, optional): Config of a loader of images of its own, such as the target's
            where validation is on the source. Without it, the images are those of the validation,
            which needs no labels with ``val_evaluator=[]``.
        images (int): At most so many of the loader's, evenly spread.
        **kwargs: As in :class:`LabelFreeMetric`.
    """

    priority = 'ABOVE_NORMAL'  # before averaged weights go, and before scores are logged or chosen

    def __init__(self, dataloader: Optional[dict] = None, images: Count = 100, **kwargs) -> None:
        self.dataloader = dataloader
        self.images = images
        self.loader: Optional[DataLoader] = None
        self.metric = LabelFreeMetric(**kwargs)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None,
                       outputs: Optional[Sequence[SegDataSample]] = None) -> None:
        assert data_batch is not None and outputs is not None
        if self.dataloader is None:
            self._process(runner, data_batch, outputs)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        assert metrics is not None
        metrics.update(self.scores_of_loader(runner) if self.dataloader is not None else
                       self.metric.evaluate(len(runner.val_dataloader.dataset)))

    def after_test_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        assert metrics is not None
        metrics.update(self.scores_of_loader(runner) if self.dataloader is not None else
                       self.metric.evaluate(len(runner.test_dataloader.dataset)))

    @torch.no_grad()
    def _process(self, runner: Runner, data_batch: dict,
                 outputs: Sequence[SegDataSample]) -> None:
        mirrored = runner.model.val_step(dict(
            inputs=[image.flip(-1) for image in data_batch['inputs']],
            # mmseg mirrors the logits of an image that was mirrored back.
            data_samples=[
                SegDataSample(metainfo=dict(
                    sample.metainfo, flip=True, flip_direction='horizontal'))
                for sample in data_batch['data_samples']]))
        self.metric.process(data_batch, [
            dict(seg_logits=one.seg_logits.to_dict(), mirrored_logits=other.seg_logits.to_dict())
            for one, other in zip(outputs, mirrored)])

    @torch.no_grad()
    def scores_of_loader(self, runner: Runner) -> Dict[str, float]:
        """Those of the loader's images, with the model in the mode that it has."""
        assert self.dataloader is not None
        if self.loader is None:
            dataset = DATASETS.build(self.dataloader['dataset'])
            dataset.get_subset_(evenly_spread(dataset, self.images))
            self.loader = Runner.build_dataloader(dict(self.dataloader, dataset=dataset))
        for batch in self.loader:
            self._process(runner, batch, runner.model.val_step(batch))
        return self.metric.evaluate(len(self.loader.dataset))
