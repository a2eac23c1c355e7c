"""Data sets in the published layouts."""
from pathlib import Path

import cv2
import numpy as np

from structseg_mmseg.datasets import CityscapesLabelIdsDataset, GTADataset


def write_image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def write_gta(root: Path, number: int = 3, size=(36, 64), seed: int = 0) -> Path:
    """A tree as GTA5's archives unpack, with every label id that they hold."""
    rng = np.random.default_rng(seed)
    for index in range(1, number + 1):
        write_image(root / f'images/{index:05d}.png', rng.integers(0, 256, (*size, 3), np.uint8))
        write_image(root / f'labels/{index:05d}.png', rng.integers(0, 35, size, np.uint8))
    return root


def write_cityscapes(root: Path, number: int = 2, size=(32, 64), seed: int = 1,
                     splits=('train', 'val')) -> Path:
    """A tree as Cityscapes' archives unpack."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for index in range(number):
            name = f'{split}/bonn/bonn_{index:06d}_000019'
            write_image(root / f'leftImg8bit/{name}_leftImg8bit.png',
                        rng.integers(0, 256, (*size, 3), np.uint8))
            write_image(root / f'gtFine/{name}_gtFine_labelIds.png',
                        rng.integers(0, 34, size, np.uint8))
    return root


def write_synthia(root: Path, number: int = 2, size=(36, 64)) -> Path:
    """A tree as SYNTHIA-RAND-CITYSCAPES' archive unpacks; green numbers the instances."""
    rng = np.random.default_rng(2)
    for index in range(number):
        write_image(root / f'RGB/{index:07d}.png', rng.integers(0, 256, (*size, 3), np.uint8))
        ids = rng.integers(0, 23, size)
        instances = rng.integers(0, 1000, size)
        write_image(root / f'GT/LABELS/{index:07d}.png',
                    np.stack([0 * ids, instances, ids], -1).astype(np.uint16))  # BGR
    return root


def write_acdc(root: Path, folders, number: int = 2, size=(36, 64)) -> Path:
    """Folders of ACDC's or Dark Zurich's archives, ``fog/val`` or ``val/night``, with trainIds."""
    rng = np.random.default_rng(3)
    for folder in folders:
        for index in range(number):
            name = f'{folder}/GOPR0001/GOPR0001_frame_{index:06d}'
            write_image(root / f'rgb_anon/{name}_rgb_anon.png',
                        rng.integers(0, 256, (*size, 3), np.uint8))
            label = rng.integers(0, 19, size, np.uint8)
            label[:9] = 255
            write_image(root / f'gt/{name}_gt_labelTrainIds.png', label)
    return root


PIPELINE = [dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            dict(type='LoadAnnotations'), dict(type='MapLabelIds'), dict(type='PackSegInputs')]
UNLABELLED = [PIPELINE[0], PIPELINE[3]]


def gta(root, **kwargs):
    kwargs.setdefault('pipeline', PIPELINE)
    kwargs.setdefault('data_prefix', dict(img_path='images', seg_map_path='labels'))
    return GTADataset(data_root=str(root), **kwargs)


def cityscapes(root, split='train', labelled=True, **kwargs):
    prefix = dict(img_path=f'leftImg8bit/{split}')
    if labelled:
        prefix['seg_map_path'] = f'gtFine/{split}'
    kwargs.setdefault('pipeline', PIPELINE if labelled else UNLABELLED)
    return CityscapesLabelIdsDataset(data_root=str(root), data_prefix=prefix, **kwargs)
