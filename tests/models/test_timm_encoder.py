"""timm's encoders against timm's own forward pass, and against DINOv2 written naively."""
import sys
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.backbones import TIMMEncoder
from tests.helpers.models import model_cfg
from tests.helpers.timm import DINOV2, DINOV3, REGISTERS, timm

HEADS, REGISTER_TOKENS = 2, 4


def with_options(cfg, **options):
    return dict(cfg, options=dict(cfg['options'], **options))


def build(cfg, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(dict(cfg, **kwargs)).eval()


@pytest.mark.parametrize('cfg,size,grid', [
    (DINOV2, (70, 98), (5, 7)), (with_options(DINOV2, patch_size=16), (64, 96), (4, 6)),
    (REGISTERS, (70, 98), (5, 7)), (DINOV3, (64, 96), (4, 6))],
    ids=['dinov2', 'dinov2-p16', 'registers', 'dinov3'])
def test_features_are_timms_tokens_after_the_final_norm(cfg, size, grid):
    encoder = build(cfg, out_indices=(0, -1))
    whole = timm.create_model(cfg['model_name'], **cfg['options']).eval()
    whole.load_state_dict(encoder.model.state_dict())
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        features = encoder(x)
        last = whole.forward_features(x)[:, whole.num_prefix_tokens:]
        whole.blocks = whole.blocks[:1]
        first = whole.forward_features(x)[:, whole.num_prefix_tokens:]
    for feature, tokens in zip(features, (first, last)):
        expected = tokens.reshape(2, *grid, 64).movedim(-1, 1)
        torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-5)
    # Sides that are no multiple are resized to one below.
    odd = torch.randn(1, 3, size[0] + 5, size[1] + 3)
    resized = F.interpolate(odd, size, mode='bilinear', align_corners=False)
    torch.testing.assert_close(encoder(odd)[1], encoder(resized)[1], rtol=1e-5, atol=1e-5)


def test_vfm_udas_tokens():
    """80 x 80 of a crop of 1024 pixels, and 64 x 64 of DINOv3's patches."""
    assert build(DINOV2, scale=1.1).grid((1024, 1024)) == (80, 80)
    assert build(DINOV3).grid((1024, 2048)) == (64, 128)


def authors_weights(cfg, grid: int) -> dict:
    """Random ones in the file's names: DINOv2's, whose registers have no positions, or DINOv3's."""
    torch.manual_seed(1)
    patch = 16 if cfg is DINOV3 else 14
    state = {'cls_token': (1, 1, 64), 'mask_token': (1, 64), 'patch_embed.proj.bias': (64, ),
             'patch_embed.proj.weight': (64, 3, patch, patch)}
    if cfg is DINOV3:
        state['storage_tokens'] = (1, REGISTER_TOKENS, 64)
    else:
        state['pos_embed'] = (1, 1 + grid**2, 64)
    if cfg is REGISTERS:
        state['register_tokens'] = (1, REGISTER_TOKENS, 64)
    for block in (f'blocks.{index}.' for index in range(2)):
        for layer, shape in (('attn.qkv', (192, 64)), ('attn.proj', (64, 64)),
                             ('mlp.fc1', (256, 64)), ('mlp.fc2', (64, 256)),
                             ('norm1', (64, )), ('norm2', (64, ))):
            state.update({f'{block}{layer}.weight': shape, f'{block}{layer}.bias': shape[:1]})
        state.update({f'{block}ls{index}.gamma': (64, ) for index in (1, 2)})
    state.update({'norm.weight': (64, ), 'norm.bias': (64, )})
    state = {name: 0.2 * torch.randn(shape) for name, shape in state.items()}
    if cfg is DINOV3:
        state['rope_embed.periods'] = torch.ones(16)
        for block in range(2):  # as in the published files
            state[f'blocks.{block}.attn.qkv.bias'].zero_()
    return state


def dinov2(w: dict, x: torch.Tensor, hidden=None) -> torch.Tensor:
    """Its tokens (N, h w, C) of images of the size it was trained with, from the authors' names."""
    x = F.conv2d(x, w['patch_embed.proj.weight'], w['patch_embed.proj.bias'], stride=14)
    x = x.flatten(2).transpose(1, 2)
    if hidden is not None:
        x[hidden.flatten(1)] = w['mask_token']
    x = torch.cat([w['cls_token'].expand(len(x), -1, -1), x], dim=1) + w['pos_embed']
    registers = w.get('register_tokens', torch.empty(1, 0, 64)).expand(len(x), -1, -1)
    x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
    for block in (f'blocks.{index}.' for index in range(2)):
        def linear(name, y):
            return y @ w[f'{block}{name}.weight'].T + w[f'{block}{name}.bias']

        def norm(name, y):
            return F.layer_norm(y, (64, ), w[f'{block}{name}.weight'], w[f'{block}{name}.bias'],
                                1e-6)
        q, k, v = linear('attn.qkv', norm('norm1', x)).view(len(x), -1, 3, HEADS, 32).unbind(2)
        scores = torch.einsum('nihc,njhc->nhij', q, k) / 32**0.5
        heads = torch.einsum('nhij,njhc->nihc', scores.softmax(-1), v).flatten(2)
        x = x + w[f'{block}ls1.gamma'] * linear('attn.proj', heads)
        hidden_layer = F.gelu(linear('mlp.fc1', norm('norm2', x)))
        x = x + w[f'{block}ls2.gamma'] * linear('mlp.fc2', hidden_layer)
    x = F.layer_norm(x, (64, ), w['norm.weight'], w['norm.bias'], 1e-6)
    return x[:, 1 + registers.shape[1]:]


@pytest.mark.parametrize('cfg', [DINOV2, REGISTERS], ids=['dinov2', 'registers'])
def test_the_authors_file_of_dinov2(cfg, tmp_path):
    """Equal features, with hidden tokens, too, whose token comes from the file and learns."""
    weights, path = authors_weights(cfg, 4), str(tmp_path / 'dinov2.pth')
    torch.save(weights, path)
    encoder = build(with_options(cfg, img_size=56), pretrained=path, mask_token=True)
    encoder.init_weights()
    x, hidden = torch.randn(2, 3, 56, 56), torch.rand(2, 4, 4) < 0.7
    with encoder.hiding(hidden):
        masked, = encoder(x)
    for feature, expected in ((encoder(x)[0], dinov2(weights, x)),
                              (masked, dinov2(weights, x, hidden))):
        torch.testing.assert_close(
            feature.flatten(2).transpose(1, 2), expected, rtol=1e-5, atol=1e-5)
    masked.sum().backward()
    assert encoder.mask_token.grad.abs().max() > 0
    # Positions of another grid are resampled, the weights of another network are not.
    larger = build(with_options(cfg, img_size=70), pretrained=path)
    larger.init_weights()
    assert larger.model.pos_embed.shape[1] - encoder.model.pos_embed.shape[1] == 25 - 16
    with pytest.raises(InputError, match='dinov2.pth has no weights of vit_small_patch16_dinov3'):
        build(DINOV3, pretrained=path).init_weights()


def test_the_authors_file_of_dinov3(tmp_path):
    """timm is the oracle here; its two versions of a model differ in biases, which are zeros."""
    weights, path = authors_weights(DINOV3, 4), str(tmp_path / 'dinov3.pth')
    torch.save(weights, path)
    x, features = torch.randn(1, 3, 64, 96), []
    for name in ('vit_small_patch16_dinov3', 'vit_small_patch16_dinov3_qkvb'):
        encoder = build(DINOV3, model_name=name, pretrained=path, mask_token=True)
        encoder.init_weights()
        features += encoder(x)
    torch.testing.assert_close(*features, rtol=1e-5, atol=1e-5)
    assert torch.equal(encoder.mask_token, weights['mask_token'])
    torch.testing.assert_close(encoder.model.blocks[1].gamma_2, weights['blocks.1.ls2.gamma'])


def test_a_file_of_timms(tmp_path):
    """As its hub holds them."""
    save_file = pytest.importorskip('safetensors.torch').save_file
    weights, path = build(DINOV3).model.state_dict(), str(tmp_path / 'model.safetensors')
    save_file({name: value + 1 for name, value in weights.items()}, path)
    encoder = build(DINOV3, pretrained=path)
    encoder.init_weights()
    assert all(torch.equal(p, weights[name] + 1) for name, p in encoder.model.named_parameters())


def test_weights_are_loaded_once(monkeypatch, tmp_path):
    """Not when a model or a copy is built, and on the main process alone."""
    path = str(tmp_path / 'dinov2.pth')
    torch.save(authors_weights(DINOV2, 37), path)
    calls, create = [], TIMMEncoder._create

    def counted(self, **kwargs):
        calls.append(kwargs.get('pretrained', False))
        return create(self, **kwargs)

    monkeypatch.setattr(TIMMEncoder, '_create', counted)
    model = MODELS.build(model_cfg(
        False, False, backbone=dict(DINOV2, pretrained=path),
        decode_head=dict(model_cfg()['decode_head'], in_channels=64),
        terms=dict(labels=dict(type='PseudoLabels'), kept=dict(type='Distillation'))))
    assert calls == [False]
    model.init_weights()
    assert calls == [False, True]
    monkeypatch.setattr('structseg_mmseg.models.backbones.timm_encoder.is_main_process',
                        lambda: False)
    model.backbone.init_weights()
    assert calls == [False, True]


def test_recomputed_activations_change_nothing_but_memory():
    x, kept, gradients = torch.randn(2, 3, 112, 112), [], []

    def pack(tensor):
        kept[-1] += tensor.numel()
        return tensor

    for with_cp in (False, True):
        encoder = build(with_options(DINOV2, depth=4), with_cp=with_cp).train()
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = encoder(x)[0].square().mean()
        loss.backward()
        gradients.append([p.grad for p in encoder.parameters()])
    assert kept[1] < kept[0] / 4
    assert all(map(torch.equal, *gradients))


def test_a_convnext():
    cfg = dict(type='TIMMEncoder', model_name='convnext_atto',
               options=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))
    encoder = build(cfg, out_indices=(0, 1, 2, 3))
    features = encoder(torch.randn(1, 3, 64, 96))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (8, 16, 24), (16, 8, 12), (24, 4, 6), (32, 2, 3)]
    with pytest.raises(InputError, match='has no tokens to hide'):
        build(cfg, mask_token=True)


def test_hidden_tokens_of_a_copy():
    """A teacher's encoder has a token and hooks of its own."""
    encoder = build(DINOV3, mask_token=True)
    copied = deepcopy(encoder)
    x, hidden = torch.randn(1, 3, 64, 64), torch.ones(1, 4, 4, dtype=torch.bool)
    with encoder.hiding(hidden), torch.no_grad():
        assert torch.equal(encoder(x)[0], encoder(2 * x)[0])  # nothing of the image is seen
        assert not torch.equal(copied(x)[0], copied(2 * x)[0])
    with pytest.raises(InputError, match='backbone.mask_token=True'):
        with build(DINOV3).hiding(hidden):
            pass


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(InputError, match='extra `vfm`'):
        TIMMEncoder('vit_small_patch14_dinov2')
