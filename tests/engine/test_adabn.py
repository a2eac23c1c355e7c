from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import nn

from structseg_mmseg.engine.adabn import estimate_statistics
from structseg_mmseg.errors import InputError
from tests.helpers.models import NUM_CLASSES, batch, model_cfg


@MODELS.register_module()
class TwoNorms(nn.Module):
    """Two layers of batch normalisation in sequence, the second behind the first's output."""

    def __init__(self, norm_eval: bool = False) -> None:
        super().__init__()
        self.norm_eval = norm_eval
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if self.norm_eval:
            self.norm1.eval()
        return self

    def forward(self, x):
        return [self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))]


def build(norm_eval=False, head_norm=True):
    """mmseg's own segmentor; statistics and parameters are those of nobody's images."""
    head = dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, concat_input=False,
                norm_cfg=dict(type='BN') if head_norm else None, num_classes=NUM_CLASSES,
                dropout_ratio=0.5, align_corners=True)
    model = MODELS.build(ConfigDict(
        type='EncoderDecoder', data_preprocessor=dict(
            type='DoublePreProcessor', mean=[104., 116., 122.], std=[58., 57., 56.]),
        backbone=dict(type='TwoNorms', norm_eval=norm_eval), decode_head=head,
        auxiliary_head=dict(head, in_index=0), test_cfg=dict(mode='whole'))).double()
    torch.manual_seed(1)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.2, 2).mul_(torch.randint(0, 2, value.shape) * 2 - 1)
    for name, value in model.named_buffers():
        if name.endswith('running_var'):
            value.abs_()
    return model


def batches(number=3):
    generator = torch.Generator().manual_seed(0)
    # A last batch that is smaller than the others weighs as much as they do.
    return [batch(generator, 9, 7, labelled=False, size=2 if index < number - 1 else 1)
            for index in range(number)]


def normalised(x, norm, means, variances):
    """By the statistics of x, (N, C, H, W), which are noted."""
    mean, count = x.mean((0, 2, 3)), x.size / x.shape[1]
    variance = ((x - mean[:, None, None]) ** 2).sum((0, 2, 3))
    means.append(mean)
    variances.append(variance / (count - 1))
    shape = (-1, 1, 1)
    x = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) / count + norm.eps)
    return x * norm.weight.numpy(force=True).reshape(shape) + norm.bias.numpy(
        force=True).reshape(shape)


def conv(x, layer):
    weight = layer.weight.numpy(force=True)
    pad = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((len(x), len(weight), *x.shape[2:]))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            out += np.einsum('nchw,oc->nohw', padded[:, :, i:i + x.shape[2], j:j + x.shape[3]],
                             weight[:, :, i, j])
    return out if layer.bias is None else out + layer.bias.numpy(force=True)[:, None, None]


def test_the_statistics_are_those_of_the_images():
    model = build()
    before = deepcopy(model.state_dict())
    net, head = model.backbone, model.decode_head.convs[0]
    noted = {'backbone.norm1': ([], []), 'backbone.norm2': ([], []),
             'decode_head.convs.0.bn': ([], [])}
    for data in batches():
        x = np.stack([image.numpy().astype(float) for image in data['inputs']])
        x = (x - np.array([104, 116, 122])[:, None, None]) / np.array([58, 57, 56])[:, None, None]
        x = np.maximum(normalised(conv(x, net.conv1), net.norm1, *noted['backbone.norm1']), 0)
        x = normalised(conv(x, net.conv2), net.norm2, *noted['backbone.norm2'])
        normalised(conv(x, head.conv), head.bn, *noted['decode_head.convs.0.bn'])
    estimate_statistics(model, batches())
    assert not any(module.training for module in model.modules())
    assert net.norm1.momentum == 0.3
    after = model.state_dict()
    changed = set()
    for name, statistics in noted.items():
        assert after[f'{name}.num_batches_tracked'] == 3
        for key, values in zip(('running_mean', 'running_var'), statistics):
            np.testing.assert_allclose(after[f'{name}.{key}'], np.mean(values, axis=0), rtol=1e-12)
            changed.add(f'{name}.{key}')
    for key, value in before.items():  # parameters and the auxiliary head's, to the bit
        if 'num_batches_tracked' not in key or key.startswith('auxiliary_head'):
            assert torch.equal(value, after[key]) == (key not in changed), key


def test_layers_that_keep_their_statistics():
    model = build(norm_eval=True)
    before = deepcopy(model.state_dict())
    estimate_statistics(model, batches())
    after = model.state_dict()
    same = {key for key, value in before.items() if torch.equal(value, after[key])}
    changed = {f'{norm}.{key}' for norm in ('backbone.norm2', 'decode_head.convs.0.bn')
               for key in ('running_mean', 'running_var', 'num_batches_tracked')}
    assert before.keys() - same == changed


def test_the_method_is_a_segmentor_like_others():
    """What only training runs, batch normalisation of its own included, is left alone."""
    torch.manual_seed(0)
    model = MODELS.build(model_cfg())
    model.terms['adversary'].add_module('norm', nn.BatchNorm2d(3))
    model.terms['adversary'].norm.running_mean.fill_(7)
    before = deepcopy(model.state_dict())
    estimate_statistics(model, [batch(torch.Generator(), 33, 41, labelled=False)])
    changed = {key for key, value in model.state_dict().items()
               if not torch.equal(value, before[key])}
    assert changed and all(
        key.startswith('backbone.') and key.rpartition('.')[2] in (
            'running_mean', 'running_var', 'num_batches_tracked') for key in changed)


def test_nothing_to_estimate():
    """Also where only the auxiliary head, which inference does not run, has live statistics."""
    model = build(head_norm=False)
    model.backbone.norm1 = model.backbone.norm2 = nn.Identity()
    model.auxiliary_head.norm = nn.BatchNorm2d(4)
    with pytest.raises(InputError, match='norm_eval=False'):
        estimate_statistics(model, batches(1))
    model.auxiliary_head.norm = None
    with pytest.raises(InputError, match='norm_eval=False'):
        estimate_statistics(model, batches(1))
