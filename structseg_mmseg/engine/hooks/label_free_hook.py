from typing import Dict, Optional, Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from structseg_mmseg.evaluation import LabelFreeMetric


@HOOKS.register_module()
class LabelFreeHook(Hook):
    """Adds the scores of :class:`LabelFreeMetric` to those of each validation and test.

    Each image passes a second time, mirrored. Where there are no labels, ``val_evaluator=[]``
    leaves these alone, and ``default_hooks.checkpoint.save_best`` may name one of them.

    Args:
        **kwargs: As in :class:`LabelFreeMetric`.
    """

    priority = 'NORMAL'  # before those that log the scores or choose by them

    def __init__(self, **kwargs) -> None:
        self.metric = LabelFreeMetric(**kwargs)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None,
                       outputs: Optional[Sequence[SegDataSample]] = None) -> None:
        assert data_batch is not None and outputs is not None
        with torch.no_grad():
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

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        assert metrics is not None
        metrics.update(self.metric.evaluate(len(runner.val_dataloader.dataset)))

    def after_test_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        assert metrics is not None
        metrics.update(self.metric.evaluate(len(runner.test_dataloader.dataset)))
