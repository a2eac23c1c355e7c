import copy

import pytest
import torch
from mmengine.config import Config
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from structseg_mmseg.models.segmentors import AdvReconSegmentor
from tests.conftest import ABLATIONS, ROOT

CONFIGS = sorted((ROOT / 'configs/structseg').glob('*.py'))
NAMES = [path.stem for path in CONFIGS]


def test_all_configs_are_there():
    suffixes = ['', '_source-only', '_feature-level', '_output-level']
    expected = [f'{name}{suffix}' for name in (
        'deeplabv2_r101_gta2cs', 'deeplabv2_lite0_game2video', 'segformerhead_lite0_game2video')
        for suffix in suffixes]
    # DeepLabv2's head and Lite0 with frozen statistics have none to take from the target.
    expected += [f'{name}_target-statistics' for name in (
        'deeplabv2_r101_gta2cs', 'segformerhead_lite0_game2video')]
    expected += [f'{name}_lite0_game2video_oracle' for name in ('deeplabv2', 'segformerhead')]
    expected += ['segformerhead_lite0_demo', 'segformerhead_lite0_demo_source-only']
    assert sorted(NAMES) == sorted(expected)


def load(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.pop('init_cfg', None)
    return cfg


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_config_says_what_its_name_says(path):
    cfg = load(path)
    ablation = next((a for a in ABLATIONS if path.stem.endswith(f'_{a}')), 'full')
    if path.stem.endswith('_oracle'):
        ablation = 'source-only'
        assert cfg.train_dataloader.dataset.type == 'CityscapesLabelIdsDataset'
    parts = ABLATIONS[ablation]
    assert tuple(cfg.model.terms[term] is not None
                 for term in ('reconstruction', 'adversary')) == parts
    assert (cfg.target_dataloader is not None) == (ablation != 'source-only')
    if cfg.target_dataloader is not None:
        assert 'seg_map_path' not in cfg.target_dataloader.dataset.data_prefix
        assert not any(t.type == 'LoadAnnotations' for t in cfg.target_dataloader.dataset.pipeline)
    if 'game2video' in path.stem:  # tuned on other images than it is tested on
        folders = [cfg[key].dataset.data_prefix.img_path
                   for key in ('val_dataloader', 'test_dataloader')]
        assert folders == ['leftImg8bit/train', 'leftImg8bit/val']
    classes = cfg.test_dataloader.dataset.get('metainfo', dict(classes=range(19)))['classes']
    assert len(classes) == cfg.model.decode_head.num_classes
    end = cfg.param_scheduler[-1].end
    assert end == (250_001 if 'r101' in path.stem else cfg.train_cfg.max_iters + 1)


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_checkpoint_without_training_parts_fits_a_plain_encoder_decoder(path):
    cfg = load(path)
    plain = copy.deepcopy(cfg.model)
    plain.type = 'EncoderDecoder'
    for key in ('terms', 'channels_last'):
        plain.pop(key)
    with torch.device('meta'):
        state = {key: value for key, value in MODELS.build(cfg.model).state_dict().items()
                 if not key.startswith(AdvReconSegmentor.training_only)}
        plain = MODELS.build(plain)
    assert type(plain) is EncoderDecoder
    plain.load_state_dict(state, strict=True, assign=True)


def test_the_papers_network():
    """E, S, G and D of deeplabv2_r101_gta2cs.py, weighed by hand from their tables."""
    cfg = load(ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    count = {name: sum(p.numel() for p in part.parameters())
             for name, part in model.named_children()}
    # ResNet-101 without its classifier: 44,549,160 - 2,049,000 parameters.
    assert count['backbone'] == 42_500_160
    assert count['decode_head'] == 4 * (2048 * 19 * 9 + 19)
    doublings = sum(a * b * 9 + b for a, b in ((512, 256), (256, 128), (128, 64)))
    G = (2048 * 512 + 512) + 8 * 512 * 512 * 9 + doublings + 64 * 3 + 3
    assert count['terms'] == G + ((19 * 9 + 1) * 128 + 4 * (128 * 9 + 1) * 128 + 512 + 1)
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(frozen) == 2 * len(norms) == 2 * 104
    assert all(m.training for m in model.train().backbone.modules())  # live statistics
    for name, layer in model.backbone.named_children():
        if name.startswith('layer'):
            stride, dilation = dict(layer1=(1, 1), layer2=(2, 1), layer3=(1, 2),
                                    layer4=(1, 4))[name]
            assert layer[0].conv1.stride == (stride, stride)  # caffe style
            assert {block.conv2.dilation for block in layer} == {(dilation, dilation)}
            assert {block.conv2.stride for block in layer} == {(1, 1)}


def test_the_papers_numbers():
    cfg = load(ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py')
    assert cfg.model.terms.reconstruction.loss_weight == 1e-5
    assert cfg.model.terms.adversary.loss_weight == 1e-3
    assert cfg.model.terms.adversary.discriminator.dilations == (1, 2, 3, 4)
    assert cfg.model.decode_head.align_corners
    for key, scale in (('train', (1280, 720)), ('target', (1024, 512)), ('test', (1024, 512))):
        loader = cfg[f'{key}_dataloader']
        resize, = (t for t in loader.dataset.pipeline if t.type == 'Resize')
        assert (resize.scale, resize.interpolation, resize.backend) == (scale, 'bicubic', 'pillow')
        assert not resize.keep_ratio and loader.batch_size == 1
    assert {t.type for t in cfg.train_dataloader.dataset.pipeline} == {
        'LoadImageFromFile', 'LoadAnnotations', 'MapLabelIds', 'Resize', 'PackSegInputs'}


@pytest.mark.parametrize('variable,key', [('GTA5', 'gta_root'), ('CITYSCAPES', 'cityscapes_root')])
def test_data_roots_come_from_the_environment(monkeypatch, variable, key):
    path = ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py'
    monkeypatch.delenv(variable, raising=False)
    assert Config.fromfile(path)[key] == f'data/{variable.lower()}'
    monkeypatch.setenv(variable, '/somewhere')
    cfg = Config.fromfile(path)
    loader = cfg.train_dataloader if variable == 'GTA5' else cfg.target_dataloader
    assert loader.dataset.data_root == '/somewhere'
