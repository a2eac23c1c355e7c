"""Small models, batches and data sets in the published layouts, shared by all tests."""
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

os.environ.setdefault('OMP_NUM_THREADS', '1')  # make test runs two files at a time

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.models import SegDataPreProcessor  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402
from torch import nn  # noqa: E402

import structseg_mmseg  # noqa: E402,F401
import tests.helpers.amp  # noqa: E402,F401  registers CPUAmpOptimWrapper
from structseg_mmseg.engine.checkpoint import load_safely  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES = 5
# The paper's experiments and one more: reconstruction, adversary, target statistics alone.
ABLATIONS = {
    'source-only': (False, False),
    'target-statistics': (False, False, True),
    'feature-level': (True, False),
    'output-level': (False, True),
    'full': (True, True),
}

torch.set_flush_denormal(True)
load_safely()


def pytest_collection_modifyitems(items):
    """The files that take minutes come first, so that two workers end at the same time."""
    items.sort(key=lambda item: '/tools/' not in str(item.path))


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@MODELS.register_module()
class DoublePreProcessor(SegDataPreProcessor):
    """mmseg's preprocessor, in float64: the stock one casts images to float32."""

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        images = [image.double() for image in data['inputs']]
        stats = [(image - self.mean) / self.std for image in images]
        return dict(inputs=torch.stack(stats), data_samples=data['data_samples'])


def model_cfg(reconstruction: bool = True, adversary: bool = True, statistics: bool = False,
              **kwargs) -> dict:
    """The method on a ResNet-18 of 1/8 width at stride 8, with live batch statistics."""
    cfg = dict(
        type='AdvReconSegmentor',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[104., 116., 122.], std=[58., 57., 56.],
            size_divisor=1),
        backbone=dict(
            type='ResNet', depth=18, stem_channels=8, base_channels=8, strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4), out_indices=(3, )),
        decode_head=dict(
            type='DeepLabV2Head', in_channels=64, dilations=(1, 2), num_classes=NUM_CLASSES,
            align_corners=True, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
        # Large weights, so that no term hides below the tolerance of a test.
        terms=dict(
            reconstruction=dict(
                type='Reconstruction',
                decoder=dict(type='ReconstructionDecoder', in_channels=64, stride=8, channels=16,
                             num_blocks=1),
                loss_weight=1e-3) if reconstruction else None,
            adversary=dict(
                type='Adversary',
                discriminator=dict(type='ASPPDiscriminator', channels=4),
                loss_weight=0.3) if adversary else None,
            statistics=dict(type='TargetStatistics') if statistics else None),
        test_cfg=dict(mode='whole'))
    cfg.update(kwargs)
    return ConfigDict(cfg)


def normed_cfg(reconstruction: bool = True, adversary: bool = True,
               statistics: bool = False) -> dict:
    """``model_cfg`` with batch normalisation in S, G and D, too."""
    cfg = model_cfg(reconstruction, adversary, statistics)
    cfg['decode_head'].update(type='FCNHead', channels=8, num_convs=1, dropout_ratio=0,
                              norm_cfg=dict(type='BN'))
    cfg['decode_head'].pop('dilations')
    if reconstruction:
        cfg['terms']['reconstruction']['decoder'].update(norm_cfg=dict(type='BN'))
    if adversary:
        cfg['terms']['adversary']['discriminator'].update(type='NormedDiscriminator')
    return cfg


@MODELS.register_module()
class NormedDiscriminator(nn.Sequential):
    """A discriminator with batch normalisation."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
            nn.LeakyReLU(0.2), nn.Conv2d(channels, 1, 1))


def optim_cfg(fused: bool = False, **kwargs) -> dict:
    return dict(
        constructor='AdaptationOptimWrapperConstructor',
        type='OptimWrapper',
        segmentor=dict(
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fused),
            paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10)))),
        reconstruction=dict(optimizer=dict(type='Adam', lr=2e-3, betas=(0.9, 0.99), fused=fused)),
        adversary=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.9, 0.99), fused=fused)),
        **kwargs)


def batch(generator: torch.Generator, height: int, width: int, labelled: bool,
          size: int = 2) -> dict:
    """A batch as mmengine's loaders collate it; a fifth of the labels is to be ignored."""
    images, samples = [], []
    for index in range(size):
        images.append(torch.randint(0, 256, (3, height, width), generator=generator,
                                    dtype=torch.uint8))
        sample = SegDataSample(metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), seed=(index, )))
        if labelled:
            label = torch.randint(0, NUM_CLASSES, (1, height, width), generator=generator)
            ignored = torch.rand(1, height, width, generator=generator) < 0.2
            label[ignored] = 255
            sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


@contextmanager
def process_group(rank: int, ranks: int, folder: str) -> Iterator[None]:
    """One of several ranks that meet in a folder, over gloo, each on a thread."""
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank,
                            world_size=ranks)
    torch.set_num_threads(1)
    init_default_scope('mmseg')
    yield
    dist.destroy_process_group()


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
