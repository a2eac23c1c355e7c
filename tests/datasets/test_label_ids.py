import shutil

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels
from mmseg.datasets import CityscapesDataset

from structseg_mmseg.datasets import CityscapesLabelIdsDataset, GTADataset, SynthiaDataset
from structseg_mmseg.errors import InputError
from tests.helpers.data import (PIPELINE, cityscapes, gta, write_cityscapes, write_gta, write_image,
                                write_synthia)


def test_label_map_is_cityscapesscripts():
    """Every id of both data sets, GTA5's licence plate (34) included."""
    train_ids = {label.id % 35: label.trainId for label in labels}  # -1, the plate, is 34
    for dataset_type in (GTADataset, CityscapesLabelIdsDataset):
        lut = dataset_type(lazy_init=True).label_lut
        assert len(lut) == (35 if dataset_type is GTADataset else 34)
        for label_id, index in enumerate(lut):
            expected = train_ids[label_id]
            assert index == (255 if expected in (-1, 255) else expected)
    names = [label.name for label in sorted(labels, key=lambda x: x.trainId)
             if label.trainId not in (-1, 255)]
    assert list(GTADataset.METAINFO['classes']) == names == list(
        CityscapesDataset.METAINFO['classes'])


@pytest.mark.parametrize('write,build', [(write_gta, gta), (write_cityscapes, cityscapes)])
def test_reads_the_published_layout(tmp_path, write, build):
    root = write(tmp_path)
    dataset = build(root)
    assert len(dataset) == (3 if build is gta else 2)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        item = dataset[index]
        ids = cv2.imread(info['seg_map_path'], cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(item['data_samples'].gt_sem_seg.data[0],
                                      dataset.label_lut[ids])
        np.testing.assert_array_equal(item['inputs'].permute(1, 2, 0),
                                      cv2.imread(info['img_path']))


def test_any_subset_of_the_classes(tmp_path):
    classes = ('car', 'road', 'sky')  # in this order
    dataset = gta(write_gta(tmp_path), metainfo=dict(classes=classes))
    lut = dataset.label_lut
    assert [lut[i] for i in (26, 7, 23)] == [0, 1, 2]
    assert set(np.delete(lut, [26, 7, 23])) == {255}
    palette = dict(zip(GTADataset.METAINFO['classes'], GTADataset.METAINFO['palette']))
    assert dataset.metainfo['palette'] == [palette[name] for name in classes]
    with pytest.raises(InputError, match="metainfo.classes names 'lorry'"):
        gta(tmp_path, metainfo=dict(classes=('road', 'lorry')))


def test_target_never_opens_a_label(tmp_path):
    root = write_cityscapes(tmp_path, splits=('train', ))
    expected = [cityscapes(root)[i]['inputs'] for i in range(2)]
    shutil.rmtree(root / 'gtFine')
    dataset = cityscapes(root, labelled=False)
    for index, inputs in enumerate(expected):
        item = dataset[index]
        np.testing.assert_array_equal(item['inputs'], inputs)
        assert 'gt_sem_seg' not in item['data_samples']
        assert 'seg_map_path' not in dataset.get_data_info(index)


def test_missing_folders(tmp_path):
    with pytest.raises(InputError, match=f'there is no folder {tmp_path}/images'):
        gta(tmp_path)
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()
    with pytest.raises(InputError, match=r'holds no image \*.png'):
        gta(tmp_path)


def test_image_without_its_label(tmp_path):
    root = write_gta(tmp_path)
    (root / 'labels/00002.png').unlink()
    with pytest.raises(InputError, match='there is no label .*labels/00002.png'):
        gta(root)


SYNTHIA_PIPELINE = [PIPELINE[0], dict(type='LoadSynthiaLabels'), *PIPELINE[2:]]
# The list that comes with SYNTHIA-RAND-CITYSCAPES, in Cityscapes' names.
SYNTHIA = [
    None, 'sky', 'building', 'road', 'sidewalk', 'fence', 'vegetation', 'pole', 'car',
    'traffic sign', 'person', 'bicycle', 'motorcycle', None, None, 'traffic light', 'terrain',
    'rider', 'truck', 'bus', 'train', 'wall', None]


def synthia(root, **kwargs):
    return SynthiaDataset(data_root=str(root), pipeline=SYNTHIA_PIPELINE,
                          data_prefix=dict(img_path='RGB', seg_map_path='GT/LABELS'), **kwargs)


def test_synthia(tmp_path):
    """All its ids, red of 16 bits, beside other numbers in the other channels."""
    dataset = synthia(write_synthia(tmp_path))
    assert len(dataset) == 2
    for index in range(len(dataset)):
        path = dataset.get_data_info(index)['seg_map_path']
        ids = cv2.imread(path, cv2.IMREAD_UNCHANGED)[..., 2]
        assert set(np.unique(ids)) == set(range(23))
        label = dataset[index]['data_samples'].gt_sem_seg.data[0].numpy()
        for label_id, name in enumerate(SYNTHIA):
            expected = 255 if name is None else dataset.metainfo['classes'].index(name)
            assert (label[ids == label_id] == expected).all()


@pytest.mark.parametrize('array,words', [
    (np.zeros((36, 64), np.uint8), 'with three channels of 16 bits'),  # converted to one channel
    (np.zeros((36, 64, 3), np.uint8), 'with three channels of 16 bits'),  # GT/COLOR
    (None, 'cannot be read')])
def test_a_label_that_is_not_synthias(tmp_path, array, words):
    root = write_synthia(tmp_path)
    path = root / 'GT/LABELS/0000000.png'
    path.write_bytes(b'nothing') if array is None else write_image(path, array)
    with pytest.raises(InputError, match=words) as error:
        synthia(root)[0]
    assert str(path) in str(error.value)
