import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from structseg_mmseg.models.segmentors import AdaptationSegmentor
from tests.helpers import ROOT
from tests.helpers.models import ABLATIONS, batch

ALL = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
TRANSLATORS = [path for path in ALL if path.stem.startswith('cyclegan')]
CONFIGS = [path for path in ALL if path not in TRANSLATORS]
NAMES = [f'{path.parent.name}-{path.stem}' for path in CONFIGS]
OURS = [path for path in CONFIGS if path.parent.name == 'structseg']


def test_all_configs_are_there():
    suffixes = ['', '_source-only', '_feature-level', '_output-level']
    expected = [f'{name}{suffix}' for name in (
        'deeplabv2_r101_gta2cs', 'deeplabv2_effnet-lite0_game2video',
        'segformer_effnet-lite0_game2video', 'segformer_effnet-lite0_game2cityscapes')
        for suffix in suffixes]
    # DeepLabv2's head and Lite0 with frozen statistics have none to take from the target.
    expected += [f'{name}_target-statistics' for name in (
        'deeplabv2_r101_gta2cs', 'segformer_effnet-lite0_game2video',
        'segformer_effnet-lite0_game2cityscapes')]
    expected += [f'{name}_oracle' for name in (
        'deeplabv2_effnet-lite0_game2video', 'segformer_effnet-lite0_game2video',
        'segformer_effnet-lite0_game2cityscapes')]
    expected += ['segformer_effnet-lite0_game2cityscapes_source-only_uncropped']
    expected += [f'segformer_effnet-lite0_demo{suffix}'
                 for suffix in ('', '_source-only', '_output-level')]
    expected += [f'deeplabv2_r101_{data}' for data in (
        'synthia2cs', 'cs2acdc', 'cs2acdc-night', 'cs2darkzurich')]
    expected += ['segformer_mit-b0_gta2cs', 'deeplabv3plus_r50_gta2cs']
    assert sorted(path.stem for path in OURS) == sorted(expected)


def test_peers_have_pages_and_names_of_their_own():
    """By their stems, after which work directories are named."""
    assert len({path.stem for path in ALL}) == len(ALL)
    assert all((path.parent / 'README.md').is_file() for path in set(ALL) - set(OURS))


def without_memory(cfg):
    """What to build a model in; mmseg's MiT computes with tensors while it is built."""
    backbone = cfg.model.backbone.get('backbone', cfg.model.backbone)  # of two scales
    return torch.device('cpu' if backbone.type == 'MixVisionTransformer' else 'meta')


def load(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.pop('init_cfg', None)
    if cfg.model.backbone.type == 'TIMMEncoder':
        import tests.helpers.timm  # noqa: F401  or the test is skipped
        if 'out_indices' not in cfg.model.backbone:  # not all of 12 or 24 equal blocks
            cfg.model.backbone.options = dict(cfg.model.backbone.get('options', {}), depth=2)
    return cfg


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_data_of_a_config(path):
    """No label of the target is read, and classes and lengths fit."""
    cfg = load(path)
    if cfg.target_dataloader is not None:
        target = cfg.target_dataloader.dataset
        for dataset in target.get('datasets', [target]):
            assert 'seg_map_path' not in dataset.data_prefix
            assert not any(step.type == 'LoadAnnotations' for step in dataset.pipeline)
    if 'game2' in path.stem:  # tuned on other images than it is tested on
        folders = [cfg[key].dataset.data_prefix.img_path
                   for key in ('val_dataloader', 'test_dataloader')]
        assert folders == ['leftImg8bit/train', 'leftImg8bit/val']
    classes = cfg.test_dataloader.dataset.get('metainfo', dict(classes=range(19)))['classes']
    heads = [cfg.model[key] for key in ('decode_head', 'auxiliary_head') if key in cfg.model]
    assert {head.num_classes for head in heads} == {len(classes)}
    if cfg.param_scheduler:  # else rates are constant
        assert cfg.param_scheduler[-1].end in (250_001, cfg.train_cfg.max_iters + 1)


@pytest.mark.parametrize('path', OURS, ids=[path.stem for path in OURS])
def test_config_says_what_its_name_says(path):
    cfg = load(path)
    ablation = next((a for a in ABLATIONS if f'_{a}' in path.stem), 'full')
    if path.stem.endswith('_oracle'):
        ablation = 'source-only'
        assert cfg.train_dataloader.dataset.type == 'CityscapesLabelIdsDataset'
    terms = ('reconstruction', 'adversary', 'statistics')
    assert set(cfg.model.get('terms', ())) == {
        term for term, there in zip(terms, ABLATIONS[ablation]) if there}
    assert (cfg.model.type == 'AdvReconSegmentor') == any(ABLATIONS[ablation][:2])
    end = cfg.param_scheduler[-1].end
    assert end == (250_001 if '_r' in path.stem else cfg.train_cfg.max_iters + 1)


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_checkpoint_without_training_parts_fits_a_plain_encoder_decoder(path):
    cfg = load(path)
    plain = copy.deepcopy(cfg.model)
    plain.type = 'EncoderDecoder'
    for key in ('terms', 'channels_last', 'steps'):
        plain.pop(key, None)
    with without_memory(cfg):
        state = {key: value for key, value in MODELS.build(cfg.model).state_dict().items()
                 if not key.startswith(AdaptationSegmentor.training_only)}
        plain = MODELS.build(plain)
    assert type(plain) is EncoderDecoder
    plain.load_state_dict(state, strict=True, assign=True)


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_every_part_has_an_optimizer(path):
    cfg = load(path)
    for part in cfg.optim_wrapper.values():
        if 'optimizer' in part:
            part.optimizer.fused = False  # which meta tensors have not
    with without_memory(cfg):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    parts = {part for step in model.steps for part in step.parts or ()}
    assert parts <= set(wrapper.keys())


@pytest.mark.parametrize('path', TRANSLATORS, ids=[path.stem for path in TRANSLATORS])
def test_a_translator(path):
    """It builds, every network has its optimizer, no label is read and crops fit everywhere."""
    cfg = Config.fromfile(path)
    for part in ('generators', 'discriminators'):
        cfg.optim_wrapper[part].optimizer.fused = False
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert list(wrapper.keys()) == ['generators', 'discriminators']
    count = [sum(p.numel() for group in part.optimizer.param_groups for p in group['params'])
             for part in wrapper.values()]
    assert sum(count) == sum(p.numel() for p in model.parameters())
    if path.stem == 'cyclegan_gta2cs':
        # The published networks hold 11.378 and 2.765 million; biases that instance normalisation
        # undoes are left out.
        widths = [(3, 64, 49), (64, 128, 9), (128, 256, 9), *[(256, 256, 9)] * 18, (256, 128, 9),
                  (128, 64, 9), (64, 3, 49)]
        assert count[0] == 2 * (sum(a * b * k for a, b, k in widths) + 3)
        widths = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
        assert count[1] == 2 * (sum(a * b * 16 for a, b in widths) + 64 + 1)
    assert 'seg_map_path' not in cfg.target_dataloader.dataset.data_prefix
    for loader in (cfg.train_dataloader, cfg.target_dataloader):
        steps = {step.type: step for step in loader.dataset.pipeline}
        assert 'LoadAnnotations' not in steps
        assert steps['RandomCrop'].crop_size == cfg.model.crop_size
        assert all(side % 4 == 0 for side in steps['Resize'].scale)
    scheduler, = cfg.param_scheduler
    assert (2 * scheduler.begin, scheduler.end - 1) == (cfg.train_cfg.max_iters, ) * 2


def test_later_stages_read_the_translated_root(monkeypatch):
    monkeypatch.setenv('GAME2VIDEO_TRANSLATED', '/somewhere')
    for name in ('cycada-source', 'cycada'):
        cfg = load(ROOT / f'configs/cycada/segformer_effnet-lite0_game2video_{name}.py')
        assert cfg.train_dataloader.dataset.data_root == '/somewhere'
        assert ('terms' in cfg.model) == (name == 'cycada')


PEERS = [path for path in CONFIGS if path not in OURS and 'game2video' in path.stem]


@pytest.mark.parametrize('path', PEERS, ids=[path.stem for path in PEERS])
def test_a_peer_takes_a_step(path):
    """Every loss is finite, and every term and network of a term has its part in it."""
    cfg = load(path)
    cfg.model.backbone.pretrained = False
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    generator = torch.Generator().manual_seed(0)
    start = copy.deepcopy(dict(model.named_parameters()))
    logs = model.train_step(dict(source=batch(generator, 65, 97, True),
                                 target=batch(generator, 65, 97, False)), wrapper)
    assert all(torch.isfinite(value) for value in logs.values())
    for name in model.terms:
        assert any(f'{name}.loss' in key for key in logs), name
    assert all(not torch.equal(p, start[name]) for name, p in model.named_parameters()
               if name.startswith('terms') and p.requires_grad)


ON_CITYSCAPES = [path for path in CONFIGS if path not in OURS and 'game2cityscapes' in path.stem]


@pytest.mark.parametrize('path', ON_CITYSCAPES, ids=[path.stem for path in ON_CITYSCAPES])
def test_a_peer_on_game2cityscapes_is_the_one_on_game2video(path):
    """Up to its images, the checkpoint that it starts from, weights, and how far D sees."""
    cfg = load(path)
    other = load(path.with_name(path.name.replace('game2cityscapes', 'game2video')))
    assert str(cfg.load_from).replace('game2cityscapes', 'game2video') == str(other.load_from)
    for term in (*cfg.model.terms.values(), *other.model.terms.values()):
        term.pop('loss_weight', None)
        if term.get('discriminator', {}).get('type') == 'ASPPDiscriminator':
            term.discriminator.pop('dilations')
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert cfg[key] == other[key]


def adaptsegnet(name):
    return load(ROOT / f'configs/adaptsegnet/deeplabv2_r101_gta2cs_adaptsegnet-{name}.py')


def test_adaptsegnet_as_released():
    """Rates of each kind of layer, and which classifiers act."""
    cfg = adaptsegnet('as-released')
    for part in cfg.optim_wrapper.values():
        if 'optimizer' in part:
            part.optimizer.fused = False
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {id(p): group['lr'] for group in wrapper['segmentor'].optimizer.param_groups
             for p in group['params']}
    for name, p in model.named_parameters():
        if p.requires_grad and not name.startswith('terms'):
            times = (10 if 'head' in name else 1 if 'conv1' in name.split('.')[1]
                     else 4 if 'downsample' in name else 3)
            assert rates[id(p)] == pytest.approx(times * 2.5e-4), name
    for head in (model.decode_head, model.auxiliary_head):
        assert [conv.dilation for conv in head.conv_seg] == [(6, 6), (12, 12)]


def test_adaptsegnets_weights():
    terms = {name: adaptsegnet(name).model.terms
             for name in ('single-level', 'least-squares', 'multi-level')}
    assert terms['single-level'].adversary.loss_weight == 1e-3
    assert terms['least-squares'].adversary.loss_weight == 1e-2
    assert [terms['multi-level'][key].loss_weight
            for key in ('auxiliary_adversary', 'adversary')] == [2e-4, 1e-3]
    assert adaptsegnet('multi-level').model.auxiliary_head.loss_decode.loss_weight == 0.1


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
