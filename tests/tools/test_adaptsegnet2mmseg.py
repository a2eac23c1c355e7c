"""Random weights under AdaptSegNet's names, against a DeepLabv2 that only this file knows."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner.checkpoint import load_checkpoint
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import load_from_local
from tests.helpers import ROOT
from tests.helpers.tools import call, fails

TOOL = 'model_converters/adaptsegnet2mmseg.py'
ADVENT = 'configs/advent/deeplabv2_r101_gta2cs_advent.py'
BLOCKS = dict(layer1=3, layer2=4, layer3=23, layer4=3)


def random_weights() -> dict:
    """Of a trained network of two levels, before torch counted batches; in half the memory."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def conv(name, out, width, kernel):
        scale = (2 / (width * kernel**2))**0.5
        state[f'{name}.weight'] = scale * torch.randn(out, width, kernel, kernel,
                                                      generator=generator)

    def norm(name, width):
        for key in ('weight', 'running_var'):
            state[f'{name}.{key}'] = torch.rand(width, generator=generator) + 0.5
        for key in ('bias', 'running_mean'):
            state[f'{name}.{key}'] = torch.randn(width, generator=generator) / 10

    conv('conv1', 64, 3, 7), norm('bn1', 64)
    width = 64
    for stage, (layer, blocks) in enumerate(BLOCKS.items()):
        middle = 64 * 2**stage
        for index in range(blocks):
            block = f'{layer}.{index}'
            conv(f'{block}.conv1', middle, width, 1), norm(f'{block}.bn1', middle)
            conv(f'{block}.conv2', middle, middle, 3), norm(f'{block}.bn2', middle)
            conv(f'{block}.conv3', 4 * middle, middle, 1), norm(f'{block}.bn3', 4 * middle)
            if index == 0:
                conv(f'{block}.downsample.0', 4 * middle, width, 1)
                norm(f'{block}.downsample.1', 4 * middle)
            width = 4 * middle
    for layer, width in (('layer5', 1024), ('layer6', 2048)):
        for k in range(4):
            conv(f'{layer}.conv2d_list.{k}', 19, width, 3)
            state[f'{layer}.conv2d_list.{k}.bias'] = torch.randn(19, generator=generator)
    return state


def deeplabv2(state: dict, x: torch.Tensor, classifiers: int) -> list:
    """Both heads' logits, by torch's functions in float64."""
    def conv(x, name, **kwargs):
        return F.conv2d(x, state[f'{name}.weight'].double(), **kwargs)

    def norm(x, name):
        mean, var, weight, bias = (state[f'{name}.{key}'].double().view(1, -1, 1, 1) for key in (
            'running_mean', 'running_var', 'weight', 'bias'))
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def classify(x, layer):
        return sum(conv(x, f'{layer}.conv2d_list.{k}', padding=rate, dilation=rate)
                   + state[f'{layer}.conv2d_list.{k}.bias'].double().view(1, -1, 1, 1)
                   for k, rate in list(enumerate((6, 12, 18, 24)))[:classifiers])

    x = norm(conv(x, 'conv1', stride=2, padding=3), 'bn1').relu()
    x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    heads = []
    for layer, blocks in BLOCKS.items():
        rate = dict(layer3=2, layer4=4).get(layer, 1)
        for index in range(blocks):
            block, stride = f'{layer}.{index}', 2 if layer == 'layer2' and index == 0 else 1
            y = norm(conv(x, f'{block}.conv1', stride=stride), f'{block}.bn1').relu()
            y = norm(conv(y, f'{block}.conv2', padding=rate, dilation=rate), f'{block}.bn2').relu()
            y = norm(conv(y, f'{block}.conv3'), f'{block}.bn3')
            if index == 0:
                x = norm(conv(x, f'{block}.downsample.0', stride=stride), f'{block}.downsample.1')
            x = (x + y).relu()
        if layer == 'layer3':
            heads.append(classify(x, 'layer5'))
    return [*heads, classify(x, 'layer6')]


@pytest.fixture(scope='module')
def weights():
    return random_weights()


@pytest.fixture(scope='module')
def theirs(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp('theirs') / 'GTA2Cityscapes_multi.pth'
    torch.save(weights, path)
    return path


@pytest.mark.parametrize('config,classifiers', [(None, 2), (ADVENT, 4)])
def test_trained_checkpoint(weights, theirs, tmp_path, config, classifiers):
    done = call(TOOL, theirs, tmp_path / 'out.pth', *(['--config', config] if config else []))
    left_out = [line for line in done.stdout.splitlines() if line.startswith('left out: ')]
    assert len(left_out) == 2 * 2 * (4 - classifiers)
    config = config or 'configs/adaptsegnet/deeplabv2_r101_gta2cs_adaptsegnet-as-released.py'
    assert f'keys of {config}' in done.stdout
    model = MODELS.build(Config.fromfile(ROOT / config).model).double().eval()
    load_checkpoint(model, str(tmp_path / 'out.pth'))
    image = torch.randn(1, 3, 25, 41, dtype=torch.float64)
    with torch.no_grad():
        features = model.extract_feat(image)
        got = [model.auxiliary_head.forward(features), model.decode_head.forward(features)]
        expected = deeplabv2(weights, image, classifiers)
    for a, b in zip(got, expected):
        assert a.shape == (1, 19, 4, 6)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * b.abs().max().item())


def test_initialisation(weights, tmp_path):
    """Its names have a prefix, its only classifier other classes and place."""
    init = {f'Scale.{key}': value for key, value in weights.items()
            if not key.startswith(('layer5', 'layer6'))}
    init.update({f'Scale.layer5.conv2d_list.{k}.{kind}': torch.zeros(21, *shape)
                 for k in range(4) for kind, shape in (('weight', (2048, 3, 3)), ('bias', ()))})
    torch.save(init, tmp_path / 'init.pth')
    done = call(TOOL, tmp_path / 'init.pth', tmp_path / 'out.pth')
    assert done.stdout.count("(the initialisation's own classifier)") == 8
    state = load_from_local(str(tmp_path / 'out.pth'))['state_dict']
    for key, value in weights.items():
        if not key.startswith(('layer5', 'layer6')):
            assert torch.equal(state.pop(f'backbone.{key}'), value), key
    assert all(key.endswith('num_batches_tracked') for key in state)


def test_what_is_none_of_these_ends_with_one_sentence(weights, tmp_path):
    def convert(state, *options):
        torch.save(state, tmp_path / 'in.pth')
        return call(TOOL, tmp_path / 'in.pth', tmp_path / 'out.pth', *options, check=False)

    fails(convert({'features.0.weight': torch.zeros(64, 3, 3, 3)}),
          'in.pth holds features.0.weight')
    few = {key: value for key, value in weights.items() if 'conv1' in key}
    fails(convert(few), 'in.pth is not one of this model', r'it lacks \d+ keys, e.g. backbone.bn1')
    fails(convert({}), 'it lacks')
    fails(convert([1]), 'holds a list')
    fails(call(TOOL, ROOT / 'README.md', tmp_path / 'out.pth', check=False), 'loaded as data')
    assert not (tmp_path / 'out.pth').exists()


def test_a_single_level(weights, theirs, tmp_path):
    """Its code trains the second head's module, too, at a weight of 0."""
    config = 'configs/adaptsegnet/deeplabv2_r101_gta2cs_adaptsegnet-single-level.py'
    done = call(TOOL, theirs, tmp_path / 'out.pth', '--config', config)
    assert done.stdout.count('(the config has no auxiliary_head)') == 8
    assert 'decode_head.conv_seg.3.bias' in load_from_local(
        str(tmp_path / 'out.pth'))['state_dict']
