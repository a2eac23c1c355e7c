import hashlib

import cv2
import numpy as np

from structseg_mmseg.datasets import CityscapesLabelIdsDataset, GTADataset
from structseg_mmseg.demo.street_worlds import LOOKS, SKY, draw_scene, draw_worlds


def digests(root):
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(root.rglob('*.png'))}


def test_equal_seeds_draw_equal_files_whatever_their_number(tmp_path):
    for name, seed, source in (('a', 0, 3), ('b', 0, 2), ('c', 1, 3)):
        list(draw_worlds(tmp_path / name, source=source, target=2, val=1, seed=seed))
    a, b, c = (digests(tmp_path / name) for name in 'abc')
    assert len(a) == 12 and a.items() >= b.items() and len(b) == 10
    assert not set(a.values()) & set(c.values())
    assert len(set(a.values())) == 12


def test_our_data_sets_read_them(tmp_path):
    drawn = list(draw_worlds(tmp_path, source=2, target=2, val=1))
    game = GTADataset(data_root=str(tmp_path / 'game'),
                      data_prefix=dict(img_path='images', seg_map_path='labels'))
    assert len(game) == 2
    for split, number in (('train', 2), ('val', 1)):
        video = CityscapesLabelIdsDataset(
            data_root=str(tmp_path / 'video'),
            data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'))
        assert len(video) == number
    assert len(drawn) == 5 and all(path.is_file() for path in drawn)
    label = cv2.imread(game.get_data_info(0)['seg_map_path'], cv2.IMREAD_UNCHANGED)
    assert set(np.unique(label)) <= set(LOOKS['game'].palette)


def test_worlds_share_their_layout_and_differ_in_looks():
    share = {name: np.zeros(256) for name in LOOKS}
    means = {}
    for name, look in LOOKS.items():
        scenes = [draw_scene(np.random.default_rng([5, i]), look) for i in range(40)]
        for _, label in scenes:
            share[name] += np.bincount(label.ravel(), minlength=256)
        means[name] = np.mean([image[label == SKY].mean(0) for image, label in scenes], axis=0)
    np.testing.assert_array_equal(share['game'], share['video'])
    share = share['game'] / share['game'].sum()
    assert all(share[label_id] > 0.002 for label_id in LOOKS['game'].palette), share
    assert np.abs(means['game'] - means['video']).max() > 30
