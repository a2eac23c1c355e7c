from typing import Dict, Optional, Sequence

import numpy as np
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from structseg_mmseg.errors import InputError


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric``, which prints the table, with each class's IoU among the results.

    So the table of a paper can be made of the files that a test leaves: ``IoU.road`` and so on, in
    percent.

    Args:
        means (dict[str, sequence of str], optional): Names of further means, and of the classes
            that each is taken over.
        **kwargs: As in ``IoUMetric``.
    """

    def __init__(self, means: Optional[Dict[str, Sequence[str]]] = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.means = means or {}

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """As in ``IoUMetric``; a class that is neither present nor predicted is nan."""
        metrics = super().compute_metrics(results)
        if results and not self.format_only:
            intersect, union = (sum(areas).numpy() for areas in list(zip(*results))[:2])
            with np.errstate(invalid='ignore'):
                ious = intersect / union * 100
            for name, iou in zip(self.dataset_meta['classes'], ious):
                metrics[f'IoU.{name}'] = round(float(iou), 2)
            for name, classes in self.means.items():
                unknown = set(classes) - set(self.dataset_meta['classes'])
                if unknown:
                    raise InputError(f'the metric\'s mean {name} names {min(unknown)!r}, which is '
                                     'no class of the data')
                chosen = np.isin(self.dataset_meta['classes'], classes)
                metrics[name] = round(float(np.nanmean(ious[chosen])), 2)
        return metrics
