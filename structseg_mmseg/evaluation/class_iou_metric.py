from typing import Dict

import numpy as np
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric``, which prints the table, with each class's IoU among the results.

    So the table of a paper can be made of the files that a test leaves: ``IoU.road`` and so on, in
    percent.
    """

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """As in ``IoUMetric``; a class that is neither present nor predicted is nan."""
        metrics = super().compute_metrics(results)
        if results and not self.format_only:
            intersect, union = (sum(areas).numpy() for areas in list(zip(*results))[:2])
            with np.errstate(invalid='ignore'):
                ious = intersect / union * 100
            for name, iou in zip(self.dataset_meta['classes'], ious):
                metrics[f'IoU.{name}'] = round(float(iou), 2)
        return metrics
