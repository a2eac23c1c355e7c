import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from cityscapesscripts.helpers.labels import trainId2label

from structseg_mmseg.datasets import CityscapesLabelIdsDataset
from structseg_mmseg.errors import InputError
from structseg_mmseg.evaluation import ClassIoUMetric
from tests.helpers.data import write_image


def test_against_cityscapesscripts(tmp_path):
    """Equal mIoU and IoU of each class on the same predictions, ids mapped by our own table."""
    rng = np.random.default_rng(0)
    dataset = CityscapesLabelIdsDataset(lazy_init=True)
    metric = ClassIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dataset.metainfo
    to_id = np.array([trainId2label[i].id for i in range(19)], np.uint8)
    truths, predictions = [], []
    for index in range(3):
        truth = rng.integers(0, 34, (20, 30)).astype(np.uint8)
        mapped = dataset.label_lut[truth]
        prediction = np.where((rng.random((20, 30)) < 0.6) & (mapped < 19), mapped,
                              rng.integers(0, 19, (20, 30))).astype(np.uint8)
        truths.append(tmp_path / f'{index}_gtFine_labelIds.png')
        predictions.append(tmp_path / f'{index}_prediction.png')
        write_image(truths[-1], truth)
        write_image(predictions[-1], to_id[prediction])
        metric.process({}, [dict(
            pred_sem_seg=dict(data=torch.from_numpy(prediction.astype(np.int64))[None]),
            gt_sem_seg=dict(data=torch.from_numpy(mapped.astype(np.int64))[None]))])
    got = metric.evaluate(size=3)

    args = official.args
    args.evalInstLevelScore = False
    args.quiet = True
    args.JSONOutput = False
    expected = official.evaluateImgLists([str(p) for p in predictions], [str(p) for p in truths],
                                         args)
    assert abs(got['mIoU'] - 100 * expected['averageScoreClasses']) < 0.005
    for name in dataset.metainfo['classes']:
        assert abs(got[f'IoU.{name}'] - 100 * expected['classScores'][name]) < 0.005


def test_a_class_that_is_nowhere_is_nan():
    metric = ClassIoUMetric()
    metric.dataset_meta = dict(classes=('a', 'b'))
    zeros = dict(data=torch.zeros(1, 2, 2, dtype=torch.int64))
    metric.process({}, [dict(pred_sem_seg=zeros, gt_sem_seg=zeros)])
    got = metric.evaluate(size=1)
    assert got['IoU.a'] == got['mIoU'] == 100 and np.isnan(got['IoU.b'])


def test_means_over_some_classes():
    metric = ClassIoUMetric(means=dict(both=('a', 'c')))
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    truth, prediction = torch.tensor([[[0, 0, 1, 2]], [[0, 1, 1, 2]]])
    results = [dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=truth))]
    metric.process({}, results)
    assert metric.evaluate(size=1)['both'] == 100 * (1 / 2 + 1) / 2
    metric.means = dict(both=('a', 'd'))
    metric.process({}, results)
    with pytest.raises(InputError, match="names 'd'"):
        metric.evaluate(size=1)
