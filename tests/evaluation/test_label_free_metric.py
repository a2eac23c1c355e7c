import numpy as np
import pytest
import torch

from structseg_mmseg.evaluation import LabelFreeMetric


def entropy(p: np.ndarray) -> float:
    return -sum(x * np.log(x) for x in p if x > 0)


def test_against_loops():
    """Every score, from loops over images, pixels and pairs of pixels, in float64."""
    generator = torch.Generator().manual_seed(0)
    logits, mirrored = (
        torch.randn(2, 4, 5, 7, generator=generator, dtype=torch.float64) * 2 for _ in range(2))
    mirrored[:, 3] = logits[:, 3] = -50  # a class that nobody predicts
    source = [0.5, 0.2, 0.2, 0.1]
    metric = LabelFreeMetric(source_shares=source)
    metric.process({}, [dict(seg_logits=dict(data=a), mirrored_logits=dict(data=b))
                        for a, b in zip(logits, mirrored)])
    got = metric.evaluate(size=2)

    softmax = np.exp(logits.numpy())
    softmax /= softmax.sum(axis=1, keepdims=True)
    pixels = softmax.transpose(0, 2, 3, 1).reshape(2, -1, 4)
    mean = pixels.mean(axis=(0, 1))
    certainty = 1 - np.mean([entropy(p) for image in pixels for p in image]) / np.log(4)
    densities = []
    for image in pixels:
        for i, p in enumerate(image):
            similarities = np.array([
                -1 if i == j else p @ q / np.linalg.norm(p) / np.linalg.norm(q)
                for j, q in enumerate(image)])
            weights = np.exp(similarities / 0.05)
            densities.append(entropy(weights / weights.sum()))
    ours, theirs = logits.argmax(1).flatten().tolist(), mirrored.argmax(1).flatten().tolist()
    ious = [sum(a == b == c for a, b in zip(ours, theirs))
            / sum(c in (a, b) for a, b in zip(ours, theirs)) for c in range(3)]
    expected = dict(
        certainty=100 * certainty,
        information=100 * (entropy(mean) / np.log(4) - 1 + certainty),
        neighbourhood_density=np.mean(densities),
        agreement=100 * np.mean([a == b for a, b in zip(ours, theirs)]),
        agreement_mIoU=100 * np.mean(ious),
        share_overlap=100 * sum(min(a, b) for a, b in zip(mean, source)))
    assert got == pytest.approx(expected, abs=0.0051)  # they are rounded


def test_a_single_logit_is_a_sigmoid_s():
    metric = LabelFreeMetric()
    metric.process({}, [dict(seg_logits=dict(data=torch.full((1, 2, 2), np.log(3))))])
    got = metric.evaluate(size=1)
    assert got['certainty'] == pytest.approx(
        100 * (1 - entropy(np.array([0.25, 0.75])) / np.log(2)), abs=0.0051)
    assert 'agreement' not in got and 'share_overlap' not in got
