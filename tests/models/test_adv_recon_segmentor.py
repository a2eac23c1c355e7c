import itertools
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from structseg_mmseg.errors import InputError, NonFiniteLossError
from structseg_mmseg.models.terms import Adversary
from tests.helpers.models import (ABLATIONS, LAMBDA_ADV, LAMBDA_REC, NUM_CLASSES, batch, build,
                                  domains, model_cfg, networks, normed_cfg, optim_cfg,
                                  sequential_optimizers, sequential_step)
from tests.helpers.passes import run_pass


@pytest.mark.parametrize('ablation,mode', [
    ('target-statistics', None), ('feature-level', None),
    *itertools.product(('output-level', 'full'), Adversary.modes)])
@pytest.mark.parametrize('norms', ['E', 'ESGD'])
def test_step_equals_sequential_procedure(ablation, mode, norms):
    """Parameters and the running statistics of batch normalisation alike."""
    cfg = (normed_cfg if norms == 'ESGD' else model_cfg)(*ABLATIONS[ablation])
    if mode is not None:
        cfg['terms']['adversary'].update(mode=mode)
    model = build(cfg=cfg)
    naive = deepcopy(model)
    wrapper = build_optim_wrapper(model, optim_cfg())
    optimizers = sequential_optimizers(naive)
    start = deepcopy(model.state_dict())
    generator = torch.Generator().manual_seed(0)
    model.train(), naive.train()
    for _ in range(5):
        data = domains(generator)
        sequential_step(naive, optimizers, deepcopy(data), mode)
        model.train_step(data, wrapper)
    for name, value in naive.state_dict().items():
        assert not torch.equal(value, start[name]), f'{name} was never trained'
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize('mode', ['target', 'per_domain'])
@pytest.mark.parametrize('ablation', ['target-statistics', 'full'])
@pytest.mark.parametrize('compile', [False, True])
def test_statistics_of_the_target_alone_or_of_each_domain(ablation, mode, compile):
    """Three iterations at a rate of 0, against plain forward passes on one domain alone."""
    model = build(cfg=dict(normed_cfg(*ABLATIONS[ablation]), batch_statistics=mode)).train()
    naive = {domain: deepcopy(model) for domain in ('source', 'target')}
    if compile:
        model.train_step = torch.compile(model.train_step, backend='aot_eager')
    cfg = optim_cfg()
    for part in ('segmentor', 'reconstruction', 'adversary'):
        cfg[part]['optimizer']['lr'] = 0
    wrapper = build_optim_wrapper(model, cfg)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        data = domains(generator)
        model.train_step(deepcopy(data), wrapper)
        for domain, plain in naive.items():
            x = plain.extract_feat(plain.data_preprocessor(data[domain], True)['inputs'])
            plain.decode_head.forward(x)
            if 'reconstruction' in plain.terms:
                plain.terms['reconstruction'].decoder(x)

    def assert_statistics(got, expected):
        for name, value in expected.named_buffers():
            if name.startswith(('backbone', 'decode_head', 'terms.reconstruction')):
                torch.testing.assert_close(dict(got.named_buffers())[name], value, rtol=0,
                                           atol=1e-10, msg=name)

    assert_statistics(model, naive['target'])
    kept = any(name.startswith('source_statistics') for name in model.state_dict())
    assert kept == (mode == 'per_domain')
    # A plain EncoderDecoder with either set is what inference is to equal.
    images = model.data_preprocessor(data['target'], False)['inputs']
    for domain, plain in naive.items():
        model.test_cfg = dict(mode='whole', statistics=domain)
        with torch.no_grad():
            torch.testing.assert_close(
                model.eval()(images), plain.eval().forward(images), rtol=0, atol=1e-10)
    assert_statistics(model, naive['target'])


def test_statistics_of_the_source_must_be_there_to_be_used():
    model = build(double=False).eval()
    model.test_cfg = dict(mode='whole', statistics='source')
    with pytest.raises(InputError, match="batch_statistics='per_domain'"):
        model(torch.zeros(1, 3, 32, 32))


def test_the_pass_for_statistics_leaves_no_graph():
    """One forward, no loss, no gradient."""
    cfg = dict(model_cfg(), terms=dict(statistics=dict(type='TargetStatistics')))
    model = build(cfg=cfg, double=False).train()
    image = torch.randn(2, 3, 28, 44)
    model.decode_head.forward = None  # S has no such layer here
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
        assert not run_pass(model, 'target', image).losses
    assert not saved


@pytest.mark.parametrize('mode', Adversary.modes)
@pytest.mark.parametrize('accumulate', [1, 2])
def test_log_of_the_game_and_of_the_branches(mode, accumulate):
    """D's accuracy, and the norms of each branch's gradient at E's features, by autograd.grad."""
    cfg = model_cfg(backbone=dict(model_cfg()['backbone'], norm_eval=True))
    cfg['terms']['adversary'].update(mode=mode)
    model = build(cfg=cfg).train()
    twin = deepcopy(model)
    G, _ = networks(twin)
    adversary = twin.terms['adversary']
    data = domains(torch.Generator().manual_seed(0))
    logs = model.train_step(deepcopy(data), build_optim_wrapper(
        model, optim_cfg(accumulative_counts=accumulate)))
    boundary = 0.5 if mode == 'least_squares' else 0.
    images = {domain: twin.data_preprocessor(part, True) for domain, part in data.items()}
    for domain, sign in (('source', 1), ('target', -1)):
        x, = twin.extract_feat(images[domain]['inputs'])
        d = adversary.discriminator(twin.decode_head.forward([x]).softmax(1))
        expected = (sign * (d - boundary) > 0).double().mean() * 100
        torch.testing.assert_close(logs[f'adversary.acc_{domain}'].double(), expected)
        if domain == 'target':
            seg = adversary.target_game(d)
        else:
            seg = twin.decode_head.loss([x], images['source']['data_samples'], None)['loss_ce']
            if adversary.pulls_source:
                seg = seg + adversary.source_game(d)
        height, width = images[domain]['inputs'].shape[2:]
        raw = torch.stack(data[domain]['inputs']).double() / 127.5 - 1
        rec = LAMBDA_REC * (G([x])[..., :height, :width] - raw).abs().sum() / 2
        for branch, loss in (('seg', seg), ('rec', rec)):
            norm = torch.autograd.grad(loss, x, retain_graph=True)[0].norm() / 2  # of the mean
            torch.testing.assert_close(logs[f'{domain}.grad_norm_{branch}'].double(), norm,
                                       rtol=1e-6, atol=0)


def test_discriminator_may_see_logits_at_the_images_size():
    """As in [14]: resized before the softmax."""
    cfg = model_cfg()
    cfg['terms']['adversary'].update(size='image')
    model = build(cfg=cfg).train()
    image = torch.randn(2, 3, 28, 44).double()
    one = run_pass(model, 'target', image)
    logits = model.decode_head.forward(model.extract_feat(image))
    expected = F.interpolate(logits, (28, 44), mode='bilinear', align_corners=True).softmax(1)
    torch.testing.assert_close(one.notes['adversary']['target'], expected.detach(), rtol=0,
                               atol=1e-10)
    d = networks(model)[1](expected)
    assert d.shape[2:] == (28, 44)
    torch.testing.assert_close(one.losses['adversary.loss_target'],
                               LAMBDA_ADV * -d.sigmoid().log().mean())


def grads(model) -> dict:
    return {name: None if p.grad is None else p.grad.clone()
            for name, p in model.named_parameters()}


def test_discriminator_learns_only_from_its_own_loss():
    """The adversarial term leaves D alone, and D's loss leaves E and S alone."""
    model = build()
    data = domains(torch.Generator().manual_seed(0))
    target = model.data_preprocessor(data['target'], True)
    one = run_pass(model, 'target', target['inputs'])
    assert not one.notes['adversary']['target'].requires_grad
    one.losses['adversary.loss_target'].backward()
    got = grads(model)
    assert all(got[n] is None for n in got if n.startswith('terms'))
    assert all(got[n].abs().sum() > 0 for n in got if n.startswith('decode_head'))
    model.zero_grad()
    source = model.data_preprocessor(data['source'], True)
    one = run_pass(model, 'source', **source, notes=one.notes)
    one.losses['adversary.loss_discriminator'].backward()
    got = grads(model)
    assert all((got[n] is not None) == n.startswith('terms.adversary') for n in got)


def test_encoder_gets_the_mean_over_branches():
    """Two branches, half of each one's gradient; S and G get their gradients whole."""
    model = build(reconstruction=True, adversary=False)
    alone = build(reconstruction=False, adversary=False)
    alone.load_state_dict(model.state_dict(), strict=False)
    data = domains(torch.Generator().manual_seed(0))
    source = model.data_preprocessor(data['source'], True)
    losses = run_pass(model, 'source', **source).losses
    losses['decode.loss_ce'].backward(retain_graph=True)
    segmentation = grads(model)
    losses['reconstruction.loss_source'].backward()
    both = grads(model)
    alone.loss(**source)['decode.loss_ce'].backward()
    for name, whole in grads(alone).items():
        factor = 0.5 if name.startswith('backbone') else 1
        torch.testing.assert_close(segmentation[name], factor * whole, rtol=1e-12, atol=1e-14)
    assert any(not torch.equal(both[n], segmentation[n]) for n in both if n.startswith('backbone'))


def test_without_parts_it_trains_as_encoder_decoder():
    model = build(reconstruction=False, adversary=False, double=False)
    cfg = model_cfg(False, False, type='EncoderDecoder')
    cfg.pop('terms')
    stock = MODELS.build(cfg)
    stock.load_state_dict(model.state_dict(), strict=True)
    stock_wrapper = build_optim_wrapper(
        stock, dict({k: v for k, v in optim_cfg()['segmentor'].items()}, type='OptimWrapper'))
    wrapper = build_optim_wrapper(model, optim_cfg())
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        source = batch(generator, 36, 52, labelled=True)
        expected = stock.train_step(deepcopy(source), stock_wrapper)
        got = model.train_step(dict(source=source), wrapper)
        assert got.keys() == expected.keys()
        assert got['loss'] == expected['loss']
    for name, value in stock.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_inference_is_encoder_decoders_and_runs_neither_g_nor_d():
    model = build(double=False).eval()
    cfg = model_cfg(type='EncoderDecoder')
    cfg.pop('terms')
    stock = MODELS.build(cfg).eval()
    stock.load_state_dict({k: v for k, v in model.state_dict().items()
                           if not k.startswith(model.training_only)}, strict=True)

    def never(*_):
        raise AssertionError('a training-only part ran')

    for network in networks(model):
        network.register_forward_pre_hook(never)
    data = batch(torch.Generator().manual_seed(0), 36, 52, labelled=True)
    with torch.no_grad():
        got, expected = (m.test_step(deepcopy(data)) for m in (model, stock))
    for a, b in zip(got, expected):
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
    assert isinstance(model, EncoderDecoder)


def test_one_domains_graph_at_a_time():
    """When the source's forward begins, no tensor of the target's graph is alive but the softmax.

    Autograd's saved tensors of the target pass are counted as they are packed and freed.
    """
    import gc
    import weakref
    model = build(double=False)
    wrapper = build_optim_wrapper(model, optim_cfg())
    data = domains(torch.Generator().manual_seed(0))
    alive, at_start = weakref.WeakSet(), []

    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor

    def pack(tensor):
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    def count(_, args):
        gc.collect()
        at_start.append(len(alive))

    model.backbone.register_forward_pre_hook(count)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        model.train_step(data, wrapper)
    assert at_start == [0, 0]


HEADS = {
    'FCNHead': dict(type='FCNHead', channels=8, num_convs=1),
    'PSPHead': dict(type='PSPHead', channels=8, pool_scales=(1, 2)),
    'ASPPHead': dict(type='ASPPHead', channels=8, dilations=(1, 2)),
    'DAHead': dict(type='DAHead', channels=8, pam_channels=4),
    'UPerHead': dict(type='UPerHead', channels=8, pool_scales=(1, 2), in_channels=[8, 16, 32, 64],
                     in_index=[0, 1, 2, 3]),
    'SegformerHead': dict(type='SegformerHead', channels=8, in_channels=[8, 16, 32, 64],
                          in_index=[0, 1, 2, 3]),
    'EncHead': dict(type='EncHead', channels=8, num_codes=4, in_channels=[32, 64],
                    in_index=[2, 3], loss_se_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.2)),
}


@pytest.mark.parametrize('head', HEADS)
def test_works_with_mmsegs_heads(head):
    cfg = model_cfg()
    cfg['backbone'].update(out_indices=(0, 1, 2, 3))
    cfg['decode_head'] = dict(dict(
        in_channels=64, in_index=3, num_classes=NUM_CLASSES, norm_cfg=dict(type='BN')),
        **HEADS[head])
    cfg['auxiliary_head'] = dict(type='FCNHead', in_channels=32, in_index=2, channels=4,
                                 num_convs=1, num_classes=NUM_CLASSES)
    model = MODELS.build(cfg)
    wrapper = build_optim_wrapper(model, optim_cfg())
    data = domains(torch.Generator().manual_seed(0))
    if head == 'DAHead':  # three maps in training
        with pytest.raises(InputError, match='DAHead returns several maps'):
            model.train_step(data, wrapper)
        return
    logs = model.train_step(data, wrapper)
    assert {'adversary.loss_discriminator', 'adversary.loss_target', 'reconstruction.loss_source',
            'reconstruction.loss_target', 'loss'} <= logs.keys()
    assert all(torch.isfinite(value).all() for value in logs.values())
    parts = sum(value for key, value in logs.items() if 'loss' in key and key != 'loss')
    torch.testing.assert_close(logs['loss'], parts)


@pytest.mark.parametrize('backbone,channels,stride', [
    (dict(type='MobileNetV2', widen_factor=0.25, out_indices=(4, 6)), 80, 32),
    (dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 1, 1],
          num_heads=[1, 1, 1, 1], out_indices=(3, )), 8, 32),
])
def test_works_with_mmsegs_backbones(backbone, channels, stride):
    cfg = model_cfg(backbone=backbone)
    cfg['decode_head'].update(in_channels=channels)
    cfg['terms']['reconstruction']['decoder'].update(
        in_channels=channels, stride=stride, channels=32)
    model = MODELS.build(cfg)
    generator = torch.Generator().manual_seed(0)
    data = dict(source=batch(generator, 64, 96, True), target=batch(generator, 64, 64, False))
    assert torch.isfinite(model.train_step(data, build_optim_wrapper(model, optim_cfg()))['loss'])


def test_wrong_stride_of_the_decoder_is_named():
    cfg = model_cfg()
    cfg['terms']['reconstruction']['decoder'].update(stride=4)
    model = MODELS.build(cfg)
    with pytest.raises(InputError, match='decoder.stride'):
        model.train_step(domains(torch.Generator().manual_seed(0)),
                         build_optim_wrapper(model, optim_cfg()))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('ablation', ABLATIONS)
def test_a_loss_that_is_not_finite_stops_the_run(ablation, value):
    """Before any parameter takes it up, and says which loss of which domain it was."""
    reconstruction, adversary, *_ = ABLATIONS[ablation]
    model = build(reconstruction=reconstruction, adversary=adversary)
    wrapper = build_optim_wrapper(model, optim_cfg())
    start = deepcopy(model.state_dict())
    if adversary:
        model.terms['adversary'].loss_weight = value
        names = ['adversary.loss_target of the target pass']
    elif reconstruction:
        model.terms['reconstruction'].loss_weight = value
        names = [f'reconstruction.loss_{domain} of the {domain} pass'
                 for domain in ('target', 'source')]
    else:
        model.decode_head.loss_decode.loss_weight = value
        names = ['decode.loss_ce of the source pass']
    MessageHub.get_current_instance().update_info('iter', 11)
    with pytest.raises(NonFiniteLossError) as error:
        model.train_step(domains(torch.Generator().manual_seed(0)), wrapper)
    assert str(error.value).startswith(f'not finite at iteration 12: {", ".join(names)};')
    assert all(torch.equal(p, start[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize('accumulate', [1, 2])
def test_a_skipped_step_leaves_no_trace(accumulate):
    """Training goes on as if neither its iteration nor what accumulated before it had been."""
    backbone = dict(model_cfg()['backbone'], norm_eval=True)
    model = build(backbone=backbone, nonfinite_loss='skip').train()
    twin = deepcopy(model)
    wrapper, twin_wrapper = (build_optim_wrapper(m, optim_cfg(accumulative_counts=accumulate))
                             for m in (model, twin))
    generator = torch.Generator().manual_seed(0)
    for iteration in range(6):
        data = domains(generator)
        bad = iteration == 3
        model.terms['adversary'].loss_weight = float('nan') if bad else LAMBDA_ADV
        logs = model.train_step(deepcopy(data), wrapper)
        assert logs['loss'].isnan() == bad
        if iteration not in range(4 - accumulate, 4):
            twin.train_step(data, twin_wrapper)
    for name, value in twin.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_statistics_that_are_not_finite_forbid_to_skip():
    model = build(nonfinite_loss='skip')
    model.terms['reconstruction'].loss_weight = float('nan')
    model.backbone.bn1.running_mean[0] = float('nan')
    with pytest.raises(NonFiniteLossError, match='statistics of batch normalisation'):
        model.train_step(domains(torch.Generator().manual_seed(0)),
                         build_optim_wrapper(model, optim_cfg()))


@pytest.mark.parametrize('key,choices', [
    ('nonfinite_loss', "'stop' or 'skip'"),
    ('batch_statistics', "'both' or 'target' or 'per_domain'"),
    ('test_cfg.statistics', "None or 'source'")])
def test_unknown_choices_are_named(key, choices):
    first, *rest = key.split('.')
    with pytest.raises(InputError, match=f"model.{key} is 'other': choose {choices}"):
        build(**{first: {rest[0]: 'other'} if rest else 'other'})
