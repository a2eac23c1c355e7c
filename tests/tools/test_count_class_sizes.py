import json

import cv2
import numpy as np
import pytest

from structseg_mmseg.models.terms import ClassSize
from tests.helpers.data import write_gta, write_image
from tests.helpers.tools import call, fails

IDS = dict(road=7, sidewalk=8, car=26)
CONFIG = '''
default_scope = 'mmseg'
custom_imports = dict(imports=['structseg_mmseg'])
train_dataloader = dict(dataset=dict(
    type='GTADataset', data_root={root!r}, metainfo=dict(classes={classes!r}),
    data_prefix=dict(img_path='images', seg_map_path='labels'), pipeline=[
        dict(type='LoadImageFromFile'){labels},
        dict(type='RandomCrop', crop_size=(8, 8)), dict(type='PackSegInputs')]))
'''
LABELS = ", dict(type='LoadAnnotations'), dict(type='MapLabelIds')"


def write_config(tmp_path, root, classes, labels=LABELS):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=str(root), classes=classes, labels=labels))
    return path


def test_it_counts_whole_labels(tmp_path):
    root = write_gta(tmp_path / 'gta', 7)
    rng = np.random.default_rng(0)
    for index in (2, 5):  # without road; one of them without any class of these
        label = rng.choice([8, 0] if index == 2 else [0, 1], (36, 64)).astype(np.uint8)
        write_image(root / f'labels/{index:05d}.png', label)
    config = write_config(tmp_path, root, ('car', 'road', 'sidewalk', 'train'))
    for index in range(1, 8):  # 'train' (31) is nowhere
        path = root / f'labels/{index:05d}.png'
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        write_image(path, np.where(label == 31, 0, label))
    done = call('dataset_converters/count_class_sizes.py', config, tmp_path / 'sizes.json',
                '--nproc', 1)
    assert '100%' in done.stdout and '\r' not in done.stdout  # no terminal
    sizes = json.loads((tmp_path / 'sizes.json').read_text())
    assert list(sizes) == ['car', 'road', 'sidewalk', 'train'] and sizes['train'] is None
    labels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (root / 'labels').iterdir()]
    for name, label_id in IDS.items():
        shares = [(label == label_id).sum() / np.isin(label, list(IDS.values())).sum()
                  for label in labels if (label == label_id).any()]
        assert sizes[name]['images'] == len(shares) == (6 if name == 'sidewalk' else 5)
        np.testing.assert_allclose(
            [sizes[name][key] for key in ('lower', 'mean', 'upper')],
            [np.quantile(shares, 0.1), np.mean(shares), np.quantile(shares, 0.9)], rtol=1e-12)
    term = ClassSize(statistics=tmp_path / 'sizes.json', num_classes=4).double()
    term.init_weights()  # reads it
    assert term.sizes[3].tolist() == [0, 0, 1]
    assert term.sizes[1].tolist() == pytest.approx(
        [sizes['road'][key] for key in ('lower', 'mean', 'upper')], rel=1e-6)


def test_a_source_without_labels_is_named(tmp_path):
    config = write_config(tmp_path, write_gta(tmp_path / 'gta', 1), ('car', ), labels='')
    fails(call('dataset_converters/count_class_sizes.py', config, tmp_path / 'sizes.json',
               check=False), 'has no LoadAnnotations')


def test_pixels_of_each_image_and_an_interrupted_count(tmp_path):
    root = write_gta(tmp_path / 'gta', 3)
    config = write_config(tmp_path, root, ('car', 'road'))
    out, part = tmp_path / 'pixels.json', tmp_path / 'pixels.json.part'
    part.write_text('["car", "road"]\n["images/00002.png", [7, 8]]\n["images/00003.p')
    call('dataset_converters/count_class_sizes.py', config, out, '--nproc', 1, '--pixels')
    pixels = json.loads(out.read_text())
    assert pixels['classes'] == ['car', 'road'] and not part.exists()
    assert list(pixels['images']) == [f'images/0000{index}.png' for index in (1, 2, 3)]
    assert pixels['images']['images/00002.png'] == [7, 8]  # was there
    for index in (1, 3):
        label = cv2.imread(str(root / f'labels/0000{index}.png'), cv2.IMREAD_UNCHANGED)
        assert pixels['images'][f'images/0000{index}.png'] == [
            (label == IDS[name]).sum() for name in ('car', 'road')]
    part.write_text('["bus"]\n["images/00001.png", [7]]\n')  # of another config
    call('dataset_converters/count_class_sizes.py', config, out, '--nproc', 1, '--pixels')
    assert json.loads(out.read_text())['images']['images/00002.png'] != [7, 8]
