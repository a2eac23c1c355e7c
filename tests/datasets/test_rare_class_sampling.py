"""How often classes come, and that a run draws the same images whatever it is run by."""
import json

import numpy as np
import pytest
import torch

from structseg_mmseg.datasets import RareClassSampling
from structseg_mmseg.datasets.seeded import SeededDataset
from structseg_mmseg.errors import InputError
from tests.helpers.data import PIPELINE, write_gta, write_image
from tests.helpers.runs import CLASSES, assert_equal_checkpoints, runner_cfg, train

IDS = (7, 8, 11)  # road, sidewalk, building
NAMES = ('road', 'sidewalk', 'building')
SIZE = (20, 30)


@pytest.fixture
def root(tmp_path):
    """Four images: road everywhere, 100 pixels of sidewalk in the second, a few in the third."""
    root = write_gta(tmp_path / 'gta', 4, SIZE)
    for index in range(4):
        label = np.full(SIZE, IDS[0], np.uint8)
        label[:10, :10 if index == 1 else index == 2] = IDS[1]
        write_image(root / f'labels/{index + 1:05d}.png', label)
    return root


def statistics(root, classes=NAMES):
    """What the tool counts."""
    images = {f'images/{index + 1:05d}.png': [600 - sidewalk, sidewalk, 0][:len(classes)]
              for index, sidewalk in enumerate((0, 100, 10, 0))}
    (root / 'pixels.json').write_text(json.dumps(dict(classes=classes, images=images)))
    return str(root / 'pixels.json')


def sampling(root, pipeline=PIPELINE, **options):
    return RareClassSampling(dataset=dict(
        type='GTADataset', data_root=str(root), metainfo=dict(classes=NAMES), pipeline=pipeline,
        data_prefix=dict(img_path='images', seg_map_path='labels')),
        **dict(dict(statistics=statistics(root), min_pixels=50, temperature=0.5), **options))


def test_classes_come_as_often_as_the_softmax_says(root):
    dataset = sampling(root)
    dataset.full_init()
    share = 110 / 2400
    odds = np.exp([share / 0.5, (1 - share) / 0.5])
    np.testing.assert_allclose(dataset.probabilities[:2], odds / odds.sum())
    assert dataset.probabilities[2] == 0  # of buildings there are none
    seeded, second = SeededDataset(dataset), 0
    for place in range(400):
        second += seeded[0, (0, 1, place)]['data_samples'].img_path.endswith('2.png')
    expected = 400 * (dataset.probabilities[1] + dataset.probabilities[0] / 4)
    assert abs(second - expected) < 3 * (400 * 0.25)**0.5


def test_a_crop_has_enough_of_the_class(root):
    crop = dict(type='RandomCrop', crop_size=(8, 12))
    seen = {}
    for ratio in (0., 0.5):
        dataset = SeededDataset(sampling(root, [*PIPELINE[:3], crop, PIPELINE[3]],
                                         temperature=0.01, min_crop_ratio=ratio))
        seen[ratio] = [int((dataset[0, (0, 1, place)]['data_samples'].gt_sem_seg.data == 1).sum())
                       for place in range(60)]
    assert np.mean(np.array(seen[0.]) > 25) < 0.6 < np.mean(np.array(seen[0.5]) > 25)


@pytest.mark.parametrize('options,message', [
    (dict(statistics='none.json'), 'no file none.json of class statistics: write it by tools'),
    (dict(min_pixels=1000), 'no image has more than 1000 pixels of a class: lower min_pixels'),
    (dict(temperature=0.), 'temperature of RareClassSampling is 0.0: give a number above 0')])
def test_what_does_not_go_is_named(root, options, message):
    with pytest.raises(InputError, match=message):
        sampling(root, **options).full_init()


def test_statistics_of_other_images_are_named(root):
    path = statistics(root)
    write_image(root / 'images/00009.png', np.zeros((*SIZE, 3), np.uint8))
    write_image(root / 'labels/00009.png', np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match='other images or classes .* such as images/00009.png'):
        sampling(root, statistics=path).full_init()
    (root / 'images/00009.png').unlink()
    dataset = sampling(root)
    statistics(root, ['road'])
    with pytest.raises(InputError, match='other images or classes than the data set: write it'):
        dataset.full_init()


def test_workers_and_resume_change_nothing(trees, tmp_path):
    """Nor do ranks: see SeededDataset, whose samples depend on their places alone."""
    images = sorted((trees[0] / 'images').iterdir())
    rng = np.random.default_rng(0)
    path = tmp_path / 'pixels.json'
    path.write_text(json.dumps(dict(classes=CLASSES, images={
        f'images/{image.name}': rng.integers(0, 200, len(CLASSES)).tolist() for image in images})))

    def cfg(folder, iterations, workers=0, **kwargs):
        made = runner_cfg(trees, tmp_path / folder, iterations, parts=(False, False),
                          workers=workers, augment=[
                              dict(type='RandomCrop', crop_size=(24, 40))], **kwargs)
        loader = made['train_dataloader']
        loader['dataset'] = dict(type='RareClassSampling', dataset=loader['dataset'],
                                 statistics=str(path), min_pixels=60, min_crop_ratio=0.1)
        return made

    straight, seen = train(cfg('straight', 4))
    worked, also = train(cfg('worked', 4, workers=2))
    assert_equal_checkpoints(straight, worked)
    assert seen == also and len({name for batch in seen['source'] for name in batch}) > 1
    train(cfg('resumed', 2))
    resumed, _ = train(cfg('resumed', 4, resume=True))
    assert_equal_checkpoints(straight, resumed)
    assert torch.isfinite(next(iter(resumed['state_dict'].values()))).all()
