import math
from typing import Dict, List, Optional, Sequence

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from torch import Tensor


@METRICS.register_module()
class LabelFreeMetric(BaseMetric):
    r"""Scores of a model on unlabelled images, each the higher the better, as its authors hold.

    With the softmax :math:`p` of a pixel over C classes, entropy H in units of :math:`\ln C` and
    means over all pixels, in percent except the density:

    ``certainty``
        :math:`1 - \mathbb{E}[H(p)]`: entropy, Morerio et al. 2018.
    ``information``
        :math:`H(\mathbb{E}[p]) - \mathbb{E}[H(p)]`: information maximisation, Shi and Sha 2012,
        as a validator in Musgrave et al. 2021 (pytorch-adapt's ``IMValidator``).
    ``neighbourhood_density``
        Soft neighbourhood density, Saito et al. 2021: the entropy, in nats, of a pixel's
        similarities to others, at temperature 0.05, on at most 16 x 16 pixels of an image.
    ``agreement``, ``agreement_mIoU``
        Pixels, and mIoU, of the prediction with the one for the mirrored image; classes that
        neither predicts are left out, as in mIoU. From samples with ``mirrored_logits``, see
        :class:`LabelFreeHook`.
    ``share_overlap``
        :math:`\sum_c \min(\mathbb{E}[p_c], s_c)` with the source's class shares :math:`s`.

    How far each can be trusted: docs/label_free_scores.md.

    Args:
        source_shares (sequence of float, optional): The share of each class among the labelled
            pixels of the source; ``share_overlap`` needs them.
        **kwargs: As in ``BaseMetric``.
    """

    grid = 16
    temperature = 0.05

    def __init__(self, source_shares: Optional[Sequence[float]] = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.source_shares = source_shares

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Reduce each prediction, logits (C, H, W), to what the scores need."""
        for sample in data_samples:
            softmax = _softmax(sample['seg_logits']['data'])
            result = dict(entropy=_entropy(softmax).mean(), shares=softmax.mean(dim=(1, 2)),
                          density=self._density(softmax))
            if 'mirrored_logits' in sample:
                mirrored = _softmax(sample['mirrored_logits']['data'])
                classes = len(softmax)
                pairs = softmax.argmax(dim=0) * classes + mirrored.argmax(dim=0)
                result['pairs'] = torch.bincount(
                    pairs.flatten(), minlength=classes**2).view(classes, classes)
            self.results.append({key: value.cpu() for key, value in result.items()})

    def _density(self, softmax: Tensor) -> Tensor:
        height, width = softmax.shape[1:]
        rows = torch.linspace(0, height - 1, min(self.grid, height)).long()
        columns = torch.linspace(0, width - 1, min(self.grid, width)).long()
        pixels = F.normalize(softmax[:, rows][:, :, columns].flatten(1), dim=0)
        similarity = pixels.T @ pixels
        similarity.fill_diagonal_(-1)  # as the authors' code does
        return _entropy((similarity / self.temperature).softmax(dim=0)).mean()

    def compute_metrics(self, results: List[Dict[str, Tensor]]) -> Dict[str, float]:
        """Scores of all images together."""
        shares = torch.stack([result['shares'] for result in results]).mean(dim=0)
        unit = math.log(len(shares))
        entropy = torch.stack([result['entropy'] for result in results]).mean() / unit
        density = torch.stack([result['density'] for result in results]).mean()
        scores = dict(certainty=100 * (1 - entropy),
                      information=100 * (_entropy(shares) / unit - entropy),
                      neighbourhood_density=density)
        if 'pairs' in results[0]:
            pairs = torch.stack([result['pairs'] for result in results]).sum(dim=0)
            same = pairs.diagonal()
            union = pairs.sum(dim=0) + pairs.sum(dim=1) - same
            scores['agreement'] = 100 * same.sum() / pairs.sum()
            scores['agreement_mIoU'] = 100 * (same / union)[union > 0].mean()
        if self.source_shares is not None:
            scores['share_overlap'] = 100 * torch.minimum(
                shares, torch.tensor(self.source_shares)).sum()
        return {key: round(float(value), 2) for key, value in scores.items()}


def _softmax(logits: Tensor) -> Tensor:
    if len(logits) == 1:  # a sigmoid's: background has logit 0
        logits = torch.cat([torch.zeros_like(logits), logits])
    return logits.float().softmax(dim=0)


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over the first dimension."""
    return torch.special.entr(probabilities).sum(dim=0)
