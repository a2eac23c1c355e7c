"""Random weights under DAFormer's names, against a MiT and a decoder that only this file knows."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner.checkpoint import load_checkpoint
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import load_from_local
from tests.helpers import ROOT
from tests.helpers.tools import call, fails

TOOL = 'model_converters/daformer2mmseg.py'
HEADS, DEPTHS, REDUCTIONS = (1, 2, 3, 4), (1, 2, 1, 1), (8, 4, 2, 1)
CONFIG = f'''
_base_ = '{ROOT}/configs/daformer/daformer_mit-b5_gta2cs_daformer.py'
model = dict(
    backbone=dict(embed_dims=8, num_layers={DEPTHS}, num_heads={HEADS}),
    decode_head=dict(in_channels=[8, 16, 24, 32], channels=12, num_classes=19))
'''
PLAIN = CONFIG.replace('model = dict(', 'model = dict(terms=dict(_delete_=True),')


class Network(dict):
    """DAFormer's network as functions; a layer gets random weights when it is first used."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, name, *shape, mean=0., scale=0.1):
        if name not in self:
            self[name] = mean + scale * torch.randn(shape, generator=self.generator)
        return self[name].double()

    def linear(self, x, name, width):
        weight = self.tensor(f'{name}.weight', width, x.shape[-1], scale=x.shape[-1]**-0.5)
        return x @ weight.T + self.tensor(f'{name}.bias', width)

    def conv(self, x, name, width, kernel, bias=True, groups=1, **kwargs):
        fan = x.shape[1] // groups
        weight = self.tensor(f'{name}.weight', width, fan, kernel, kernel,
                             scale=(fan * kernel**2)**-0.5)
        bias = self.tensor(f'{name}.bias', width) if bias else None
        return F.conv2d(x, weight, bias, groups=groups, **kwargs)

    def norm(self, x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        width = x.shape[-1]
        return x * self.tensor(f'{name}.weight', width, mean=1) + self.tensor(f'{name}.bias', width)

    def conv_norm_relu(self, x, name, width, kernel, **kwargs):
        x = self.conv(x, f'{name}.conv', width, kernel, bias=False, **kwargs)
        mean, bias = (self.tensor(f'{name}.bn.{key}', width)[:, None, None]
                      for key in ('running_mean', 'bias'))
        var, weight = (self.tensor(f'{name}.bn.{key}', width, mean=1)[:, None, None]
                       for key in ('running_var', 'weight'))
        self[f'{name}.bn.num_batches_tracked'] = torch.tensor(7)
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).relu()

    def attention(self, x, name, heads, reduction, height, width):
        batch, _, channels = x.shape
        queries = self.linear(x, f'{name}.q', channels)
        if reduction > 1:
            x = x.transpose(1, 2).reshape(batch, channels, height, width)
            x = self.conv(x, f'{name}.sr', channels, reduction, stride=reduction)
            x = self.norm(x.flatten(2).transpose(1, 2), f'{name}.norm')
        keys, values = self.linear(x, f'{name}.kv', 2 * channels).chunk(2, dim=-1)
        queries, keys, values = (
            y.reshape(batch, -1, heads, channels // heads).transpose(1, 2)
            for y in (queries, keys, values))
        shares = (queries @ keys.transpose(2, 3) / (channels // heads)**0.5).softmax(-1)
        return self.linear((shares @ values).transpose(1, 2).reshape(batch, -1, channels),
                           f'{name}.proj', channels)

    def features(self, x):
        outs = []
        for stage, (heads, depth, reduction) in enumerate(zip(HEADS, DEPTHS, REDUCTIONS), 1):
            kernel, stride, channels = 7 if stage == 1 else 3, 4 if stage == 1 else 2, 8 * heads
            name = f'backbone.patch_embed{stage}'
            x = self.conv(x, f'{name}.proj', channels, kernel, stride=stride, padding=kernel // 2)
            height, width = x.shape[2:]
            x = self.norm(x.flatten(2).transpose(1, 2), f'{name}.norm')
            for index in range(depth):
                name = f'backbone.block{stage}.{index}'
                x = x + self.attention(self.norm(x, f'{name}.norm1'), f'{name}.attn', heads,
                                       reduction, height, width)
                y = self.linear(self.norm(x, f'{name}.norm2'), f'{name}.mlp.fc1', 4 * channels)
                y = y.transpose(1, 2).reshape(len(y), -1, height, width)
                y = self.conv(y, f'{name}.mlp.dwconv.dwconv', 4 * channels, 3, padding=1,
                              groups=4 * channels)
                y = F.gelu(y).flatten(2).transpose(1, 2)
                x = x + self.linear(y, f'{name}.mlp.fc2', channels)
            x = self.norm(x, f'backbone.norm{stage}')
            x = x.transpose(1, 2).reshape(len(x), -1, height, width)
            outs.append(x)
        return outs

    def logits(self, image):
        return self.decode(self.features(image), 'decode_head')

    def decode(self, features, head, context=True):
        maps = []
        for level, x in enumerate(features):
            y = self.linear(x.movedim(1, -1), f'{head}.embed_layers.{level}.proj', 12)
            maps.append(y.movedim(-1, 1))
        size, name = maps[0].shape[2:], f'{head}.fuse_layer'
        x = torch.cat([F.interpolate(y, size, mode='bilinear') for y in maps], dim=1)
        if not context:
            return self.conv(self.conv_norm_relu(x, name, 12, 1), f'{head}.conv_seg', 19, 1)
        outs = [self.conv_norm_relu(x, f'{name}.aspp_modules.0', 12, 1)]
        for index, rate in enumerate((6, 12, 18), 1):
            part = f'{name}.aspp_modules.{index}'
            y = self.conv_norm_relu(x, f'{part}.depthwise_conv', 48, 3, padding=rate,
                                    dilation=rate, groups=48)
            outs.append(self.conv_norm_relu(y, f'{part}.pointwise_conv', 12, 1))
        x = self.conv_norm_relu(torch.cat(outs, dim=1), f'{name}.bottleneck', 12, 3, padding=1)
        return self.conv(x, f'{head}.conv_seg', 19, 1)


IMAGE = torch.randn(2, 3, 72, 104, generator=torch.Generator().manual_seed(9)).double()


@pytest.fixture(scope='module')
def networks():
    """Their three, with the logits and features of each on IMAGE."""
    made = {key: Network(seed) for seed, key in enumerate(('model', 'ema_model', 'imnet_model'))}
    return {key: (network, network.logits(IMAGE), network.features(IMAGE))
            for key, network in made.items()}


@pytest.fixture(scope='module')
def theirs(networks, tmp_path_factory):
    path = tmp_path_factory.mktemp('theirs') / 'latest.pth'
    torch.save(dict(
        meta=dict(iter=40_000, CLASSES=('road', ), PALETTE=[[128, 64, 128]]),
        state_dict={f'{key}.{name}': value for key, (network, _, _) in networks.items()
                    for name, value in network.items()}), path)
    return path


def converted(checkpoint, tmp_path, config):
    path = tmp_path / 'config.py'
    path.write_text(config)
    done = call(TOOL, checkpoint, tmp_path / 'out.pth', '--config', path)
    model = MODELS.build(Config.fromfile(path).model)
    load_checkpoint(model, str(tmp_path / 'out.pth'), strict=True)
    return model.double().eval(), done.stdout


def close(ours, expected):
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


@torch.no_grad()
def test_student_teacher_and_the_copy_of_imagenet(networks, theirs, tmp_path):
    model, out = converted(theirs, tmp_path, CONFIG)
    assert 'left out' not in out
    term = model.terms['self_training']
    for segmentor, key in ((model, 'model'), (term.teacher, 'ema_model')):
        close(segmentor(IMAGE), networks[key][1])
    for ours, expected in zip(model.terms['feature_distance'].encoder(IMAGE),
                              networks['imnet_model'][2]):
        close(ours, expected)
    assert term.steps == 40_000 and model.terms['feature_distance'].copied


@torch.no_grad()
def test_a_plain_network(networks, theirs, tmp_path):
    """Of a config without terms, and of a published file, which has the student alone."""
    model, out = converted(theirs, tmp_path, PLAIN)
    assert out.count('left out: ') == 2 and '(the config has no term for the teacher)' in out
    close(model(IMAGE), networks['model'][1])
    published = {key: value for key, value in load_from_local(str(theirs))['state_dict'].items()
                 if key.startswith('model.')}
    torch.save(dict(state_dict=published), tmp_path / 'published.pth')
    call(TOOL, tmp_path / 'published.pth', tmp_path / 'again.pth', '--config',
         tmp_path / 'config.py')
    first, again = (load_from_local(str(tmp_path / name))['state_dict']
                    for name in ('out.pth', 'again.pth'))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


@torch.no_grad()
def test_two_scales(tmp_path):
    """HRDA's encoder, head and attention, by themselves: tests/models/test_hrda.py joins them."""
    network, imagenet = Network(3), Network(4)
    x = network.features(IMAGE)
    logits = network.decode(x, 'decode_head.head')
    attention = network.decode(x, 'decode_head.scale_attention', context=False)
    taught = imagenet.features(IMAGE)
    torch.save(dict(state_dict={
        **{f'model.{key}': value for key, value in network.items()},
        **{f'imnet_model.{key}': value for key, value in imagenet.items()}}), tmp_path / 'in.pth')
    model, _ = converted(tmp_path / 'in.pth', tmp_path, f'''
_base_ = '{ROOT}/configs/hrda/daformer_mit-b5_gta2cs_hrda.py'
head = dict(in_channels=[8, 16, 24, 32], channels=12)
model = dict(
    backbone=dict(backbone=dict(embed_dims=8, num_layers={DEPTHS}, num_heads={HEADS})),
    decode_head=dict(head=head, attention=head),
    terms=dict(self_training=None))
''')
    close(model.decode_head.head(model.backbone.context[1](IMAGE)), logits)
    close(model.decode_head.scale_attention(x), attention)
    close(model.terms['feature_distance'].encoder[1](IMAGE)[-1], taught[-1])


def test_deeplabv2(tmp_path):
    """mmseg's ResNet has kept its names; classifiers have others."""
    config = f'''
_base_ = '{ROOT}/configs/daformer/deeplabv2_r101_gta2cs_daformer.py'
model = dict(
    backbone=dict(depth=18, stem_channels=8, base_channels=8), decode_head=dict(in_channels=64))
'''
    (tmp_path / 'config.py').write_text(config)
    expected = {key: torch.randn(value.shape) if value.is_floating_point() else value
                for key, value in MODELS.build(Config.fromfile(
                    tmp_path / 'config.py').model).state_dict().items()
                if not key.startswith('terms.')}
    torch.save(dict(state_dict={
        # As it is written on several GPUs.
        'model.module.' + key.replace('conv_seg.0', 'aspp_modules.0.conv').replace(
            'conv_seg.1', 'aspp_modules.1.conv'): value
        for key, value in expected.items()}), tmp_path / 'in.pth')
    call(TOOL, tmp_path / 'in.pth', tmp_path / 'out.pth', '--config', tmp_path / 'config.py')
    state = load_from_local(str(tmp_path / 'out.pth'))['state_dict']
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_what_is_none_of_these_ends_with_one_sentence(networks, tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)

    def convert(state):
        torch.save(dict(state_dict=state), tmp_path / 'in.pth')
        return call(TOOL, tmp_path / 'in.pth', tmp_path / 'out.pth', '--config',
                    tmp_path / 'config.py', check=False)

    student = dict(networks['model'][0])
    fails(convert({**student, 'decode_head.linear_pred.weight': torch.zeros(1)}),
          'in.pth holds decode_head.linear_pred.weight')
    fails(convert({key: value for key, value in student.items() if '.kv.' not in key}),
          'in.pth is not one of this model', r'other shapes for 10 keys, e.g. backbone.layers.0')
    fails(convert({}), 'it lacks')
    assert not (tmp_path / 'out.pth').exists()
