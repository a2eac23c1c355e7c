"""What game2cityscapes reads, of files drawn in its layout."""
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from tests.helpers import ROOT
from tests.helpers.data import write_image

NAME = 'segformer_effnet-lite0_game2cityscapes'
DEV = (ROOT / 'configs/_base_/datasets/game2cityscapes_dev.txt').read_text().split()
OTHER = 'aachen/aachen_000001_000019'  # the second name, which dev leaves out


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """The data set that a loader of a config opens."""
    monkeypatch.setenv('GAME2VIDEO', str(tmp_path / 'game'))
    monkeypatch.setenv('CITYSCAPES256', str(tmp_path / 'video'))
    init_default_scope('mmseg')
    street = np.full((360, 480), 7, np.uint8)  # road
    street[:75], street[315:] = 23, 26  # sky above and cars below the rows that are kept
    write_image(tmp_path / 'game/street/images/00001.jpg', street)
    write_image(tmp_path / 'game/street/labels/00001.png', street)
    for split, names in (('train', (DEV[0], OTHER)), ('val', ('ulm/ulm_000000_000019', ))):
        for name in names:
            for file in (f'leftImg8bit/{split}/{name}_leftImg8bit.jpg',
                         f'gtFine/{split}/{name}_gtFine_labelIds.png'):
                write_image(tmp_path / 'video' / file, np.full((256, 256), 7, np.uint8))
    for name in DEV[1:]:  # found, not opened
        for file in (f'leftImg8bit/train/{name}_leftImg8bit.jpg',
                     f'gtFine/train/{name}_gtFine_labelIds.png'):
            (tmp_path / 'video' / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / 'video' / file).touch()

    def build(suffix, loader):
        cfg = Config.fromfile(ROOT / f'configs/structseg/{NAME}{suffix}.py')
        return DATASETS.build(cfg[f'{loader}_dataloader'].dataset)

    return build


def test_dev_is_every_tenth_training_image_and_training_sees_it_unlabelled(dataset):
    assert len(DEV) == len(range(0, 2975, 10)) and DEV == sorted(set(DEV))
    dev, target = dataset('', 'val'), dataset('', 'target')
    assert [info['name'] for info in dev.load_data_list()] == DEV
    assert {info['name'] for info in target.load_data_list()} == {*DEV, OTHER}
    assert 'gt_sem_seg' not in target[0]['data_samples']
    for evaluated in (dev, dataset('', 'test')):
        sample = evaluated[0]
        assert sample['inputs'].shape == (3, 257, 257)
        assert sample['data_samples'].gt_sem_seg.data.shape == (1, 256, 256)  # their own size


@pytest.mark.parametrize('suffix,classes', [
    ('', {'road'}), ('_source-only', {'road'}),
    ('_source-only_uncropped', {'road', 'sky', 'car'}), ('_oracle', {'road'})])
def test_the_source_has_the_targets_shape(dataset, suffix, classes):
    source = dataset(suffix, 'train')
    sample = source[0]
    label = sample['data_samples'].gt_sem_seg.data
    assert sample['inputs'].shape[1:] == label.shape[1:] == (257, 257)
    assert {source.metainfo['classes'][index] for index in label.unique()} == classes
    assert len(source) == (len(DEV) + 1 if suffix == '_oracle' else 1)
