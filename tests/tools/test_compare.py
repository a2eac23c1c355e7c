"""What compare.py chooses and draws, of two models that were never trained."""
import json
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model
from mmseg.registry import DATASETS, MODELS

from structseg_mmseg.demo.street_worlds import draw_worlds
from structseg_mmseg.errors import InputError
from tests.helpers import ROOT
from tests.helpers.tools import SOURCE_ONLY, load

CLASSES = ('road', 'sidewalk', 'building', 'pole', 'traffic sign', 'vegetation', 'sky', 'car')
IMAGES = 6


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """The work dirs of two models; a's IoU is said to be 60 in each class, that of b 30."""
    root = tmp_path_factory.mktemp('compare')
    list(draw_worlds(root / 'demo', source=0, target=0, val=IMAGES))
    init_default_scope('mmseg')  # conftest's comes after fixtures of a module
    cfg = Config.fromfile(ROOT / SOURCE_ONLY)
    cfg.test_dataloader.dataset.data_root = str(root / 'demo/video')
    for seed, (name, iou) in enumerate((('a', 60), ('b', 30))):
        (root / name).mkdir()
        cfg.dump(root / name / 'config.py')
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta={})),
                   root / name / 'iter_0.pth')
        (root / name / 'last_checkpoint').write_text('iter_0.pth')
        results = dict.fromkeys(['mIoU', *(f'IoU.{each}' for each in CLASSES)], iou)
        (root / name / 'results.json').write_text(json.dumps(dict(last=dict(test=results))))
    return root


@pytest.fixture
def compare(monkeypatch, capsys):
    """The tool, called in this process: the lines of the images that it has drawn."""
    tool = load('analysis_tools/compare.py')

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['compare.py', *map(str, args)])
        tool.main()
        return [line[2:] for line in capsys.readouterr().out.splitlines()
                if line.startswith('  demo_')]

    call.tool = tool
    return call


def naive_gains(root):
    """By the image's name, its mIoU by both models."""
    cfg = Config.fromfile(root / 'a/config.py')
    models = [init_model(cfg, str(root / name / 'iter_0.pth'), device='cpu') for name in 'ab']
    scores = {}
    for sample in DATASETS.build(cfg.test_dataloader.dataset):
        path = sample['data_samples'].img_path
        truth = sample['data_samples'].gt_sem_seg.data[0].numpy()
        means = []
        for model in models:
            prediction = inference_model(model, cv2.imread(path)).pred_sem_seg.data[0].numpy()
            ious = []
            for index in range(len(CLASSES)):
                found, there = (each[truth != 255] == index for each in (prediction, truth))
                if (found | there).any():
                    ious.append((found & there).sum() / (found | there).sum())
            means.append(100 * np.mean(ious))
        scores[path.split('/')[-1].removesuffix('_leftImg8bit.png')] = means
    return scores


def test_changed_images_are_those_of_a_naive_computation(workplace, compare, monkeypatch):
    calls = []

    def counted(model, image):
        calls.append((model, image.tobytes()))
        return inference_model(model, image)

    monkeypatch.setattr(compare.tool, 'inference_model', counted)
    lines = compare(workplace / 'a', workplace / 'b', '--changed', '--samples', 3, '--picture',
                    workplace / 'changed.png')
    assert len(calls) == len(set(calls)) == 2 * IMAGES
    scores = naive_gains(workplace)
    assert len({round(b - a, 3) for a, b in scores.values()}) == IMAGES  # there is a choice
    ranked = sorted(scores, key=lambda name: scores[name][0] - scores[name][1])
    expected = []
    for name in (*ranked[:2], ranked[-1]):
        a, b = scores[name]
        expected.append(f'{name}, mIoU {a:.1f} to {b:.1f} ({b - a:+.1f})')
    assert lines == expected


def test_named_images_and_their_legend(workplace, compare):
    pictures = []
    for names in (['demo_000005_000000', 'demo_000002_000000_leftImg8bit.png'],
                  ['demo_000004_000000']):
        path = workplace / f'{len(names)}.png'
        assert compare(workplace / 'a', workplace / 'b', '--images', *names, '--picture',
                       path) == [name.removesuffix('_leftImg8bit.png') for name in names]
        pictures.append(cv2.imread(str(path))[..., ::-1])
    two, one = pictures
    assert two.shape[0] > one.shape[0] + 129 and two.shape[1] > 4 * 257
    dataset = DATASETS.build(Config.fromfile(workplace / 'a/config.py').test_dataloader.dataset)
    for colour in dataset.metainfo['palette']:
        assert (one == colour).all(-1).sum() > 100


def test_bars_are_as_long_as_the_numbers(workplace, compare):
    compare(workplace / 'a', workplace / 'b', '--bars', workplace / 'bars.png')
    picture = cv2.imread(str(workplace / 'bars.png'))[..., ::-1]
    a, b = ((picture == colour).all(-1).any(1).nonzero()[0]  # rows that hold the colour
            for colour in ((31, 119, 180), (255, 127, 14)))
    bottom = next(row for row in a if row + 1 not in a)
    heights = [bottom - rows[0] + 1 for rows in (a, b)]
    assert heights[0] > 50 and heights[0] / heights[1] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize('names,options,words', [
    ('ab', ['--picture', 'x.png', '--images', 'demo_000009_000000'],
     'no image demo_000009_000000: give .* such as demo_000001_000000'),
    ('a', ['--picture', 'x.png', '--changed'], 'give two work dirs'),
    ('ab', ['--changed'], 'give --picture'),
    ('ab', ['--samples', '0'], '--samples is 0'),
    ('abc', [], 'on the class pole, c was not'),
])
def test_bad_input(workplace, compare, names, options, words):
    (workplace / 'c').mkdir(exist_ok=True)
    (workplace / 'c/results.json').write_text(json.dumps(
        dict(last=dict(test={'mIoU': 1, 'IoU.road': 1, 'IoU.sidewalk': 1, 'IoU.building': 1}))))
    with pytest.raises(InputError, match=words):
        compare(*(workplace / name for name in names), *options)
