from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import PolyLR, build_optim_wrapper
from mmseg.registry import MODELS

from structseg_mmseg.errors import InputError
from tests.helpers import ROOT
from tests.helpers.models import ABLATIONS, model_cfg, optim_cfg


@pytest.mark.parametrize('ablation', ABLATIONS)
def test_each_parameter_in_one_optimizer_with_its_rate(ablation):
    """By the schedule of the paper's own config."""
    reconstruction, adversary, *_ = ABLATIONS[ablation]
    model = MODELS.build(model_cfg(reconstruction, adversary))
    cfg = Config.fromfile(ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py')
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert list(wrapper.keys()) == ['segmentor', *['reconstruction'] * reconstruction,
                                    *['adversary'] * adversary]
    groups = {}
    for name, part in wrapper.items():
        assert type(part.optimizer).__name__ == ('SGD' if name == 'segmentor' else 'Adam')
        for group in part.optimizer.param_groups:
            for p in group['params']:
                if p.numel() and any(p is q for q in model.parameters()):
                    assert p not in groups
                    groups[p] = (name, group)
    assert len(groups) == len(list(model.parameters()))
    assert len(wrapper['segmentor'].optimizer.param_groups) == 2  # one for each rate
    for key, p in model.named_parameters():
        name, group = groups[p]
        if key.startswith('terms.reconstruction'):
            assert (name, group['lr'], group['betas']) == ('reconstruction', 2.5e-4, (0.9, 0.99))
        elif key.startswith('terms.adversary'):
            assert (name, group['lr'], group['betas']) == ('adversary', 1e-4, (0.9, 0.99))
        else:
            rate = 2.5e-3 if key.startswith('decode_head') else 2.5e-4
            assert name == 'segmentor' and group['lr'] == pytest.approx(rate, rel=1e-12)
            assert (group['momentum'], group['weight_decay']) == (0.9, 5e-4)


def test_poly_schedules_against_the_closed_form():
    """(1 - i / 250000) ** 0.9 for every group of every optimizer, to the end and step by step."""
    model = MODELS.build(model_cfg())
    cfg = Config.fromfile(ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py')
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    scheduler = dict(cfg.param_scheduler[0])
    assert scheduler.pop('type') == 'PolyLR'
    schedulers = [PolyLR(part, **scheduler) for part in wrapper.values()]
    start = [[g['lr'] for g in part.optimizer.param_groups] for part in wrapper.values()]
    for i in range(1, 2001):
        for part, s in zip(wrapper.values(), schedulers):
            part.optimizer._step_count = 1
            s.step()
        if i % 500 == 0:
            factor = (1 - i / 250_000)**0.9
            for part, lrs in zip(wrapper.values(), start):
                for group, lr in zip(part.optimizer.param_groups, lrs):
                    assert group['lr'] == pytest.approx(lr * factor, rel=1e-9)
    assert cfg.train_cfg.max_iters == 150_000


def test_passes_accumulate_and_an_iteration_counts_once():
    """Two backward passes an iteration, a step every second one: the mean of both iterations."""
    torch.manual_seed(0)
    model = MODELS.build(model_cfg(False, False)).double()
    wrapper = build_optim_wrapper(model, optim_cfg(accumulative_counts=2))
    wrapper.initialize_count_status(model, 0, 4)
    p = model.decode_head.conv_seg[0].bias
    start, slopes = p.detach().clone(), torch.arange(1., 5).double()
    for a, b in ((0, 1), (2, 3)):
        assert torch.equal(p, start)
        for slope in slopes[[a, b]]:
            wrapper.backward(slope * p.sum())
        wrapper.update()
    # lr 0.1, weight decay 5e-4, gradient (1 + 2 + 3 + 4) / 2 in each place
    torch.testing.assert_close(p.detach(), start - 0.1 * (5 + 5e-4 * start))
    assert p.grad is None
    assert all(part.inner_count == 2 for part in wrapper.values())


def test_a_part_without_an_optimizer_is_named():
    cfg = optim_cfg()
    del cfg['adversary']
    with pytest.raises(InputError, match='model.terms.adversary has no optimizer'):
        build_optim_wrapper(MODELS.build(model_cfg()), cfg)
    with pytest.raises(InputError, match='paramwise_cfg'):
        build_optim_wrapper(MODELS.build(model_cfg()), optim_cfg(paramwise_cfg=dict()))


def amp_wrapper(model, fused, **scaler):
    cfg = optim_cfg(fused, loss_scale=dict(dict(init_scale=2.**10, growth_interval=2), **scaler))
    return build_optim_wrapper(model, dict(cfg, type='CPUAmpOptimWrapper'))


@pytest.mark.parametrize('fused', [False, True])  # fused ones unscale and skip by themselves
def test_one_loss_scale_for_all_optimizers(fused):
    """Scaled by powers of two that change on the way, training is the unscaled one to the bit."""
    torch.manual_seed(0)
    model = MODELS.build(model_cfg())
    plain = deepcopy(model)
    wrapper = amp_wrapper(model, fused)
    plain_wrapper = build_optim_wrapper(plain, optim_cfg(fused))
    parts = [(m.decode_head.conv_seg[0].bias, m.terms['reconstruction'].decoder.layers[0].conv.bias,
              m.terms['adversary'].discriminator.classify.bias) for m in (model, plain)]
    scales = []
    for i in range(4):
        for (a, b, c), w in zip(parts, (wrapper, plain_wrapper)):
            w.backward(((i + 1) * a.square()).sum() + b.square().sum())
            w.backward(((i + 2) * b).sum() + c.square().sum())
            w.update()
        scales.append(wrapper['segmentor'].loss_scaler.get_scale())
    for a, b in zip(*parts):
        assert torch.equal(a, b)
    assert scales == [2.**10, 2.**11, 2.**11, 2.**12]
    assert len({id(part.loss_scaler) for part in wrapper.values()}) == 1


@pytest.mark.parametrize('fused', [False, True])
def test_an_overflow_skips_the_optimizer_that_it_hits(fused):
    model = MODELS.build(model_cfg())
    wrapper = amp_wrapper(model, fused)
    bias = model.decode_head.conv_seg[0].bias
    logit = model.terms['adversary'].discriminator.classify.bias
    other = model.terms['reconstruction'].decoder.layers[0].conv.bias
    start = deepcopy((bias, logit, other))
    wrapper.backward(bias.sum() + other.sum() + logit.sum() * torch.inf)
    wrapper.update()
    assert torch.equal(logit, start[1])
    assert not torch.equal(bias, start[0]) and not torch.equal(other, start[2])
    assert wrapper['segmentor'].loss_scaler.get_scale() == 2.**9


@pytest.mark.parametrize('schedule', ['paper', 'test'])
def test_momentum_starts_well_where_the_first_step_overflows(schedule):
    """At torch's default scale, by the shipped optimizers: fused as not fused, to the bit.

    torch's fused SGD leaves its first momentum uninitialised if the first step is skipped.
    """
    models = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = MODELS.build(model_cfg())
        cfg = Config.fromfile(ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py').optim_wrapper
        cfg = optim_cfg() if schedule == 'test' else cfg
        for part in ('segmentor', 'reconstruction', 'adversary'):
            cfg[part]['optimizer']['fused'] = fused
        wrapper = build_optim_wrapper(
            model, dict(cfg, type='CPUAmpOptimWrapper', dtype='float16'))
        memory = [torch.full((2**14, ), 1e30) for _ in range(8)]  # what the allocator hands out
        del memory
        weight = model.backbone.conv1.weight
        for gradient in (2**20, 1., 0.5):
            for p in model.parameters():
                p.grad = None
            loss = gradient * weight.sum() + model.decode_head.conv_seg[0].bias.sum()
            wrapper.backward(loss * (torch.inf if gradient > 1 else 1))
            wrapper.update()
        assert weight.isfinite().all()
        models.append(model)
    for (name, p), q in zip(models[0].named_parameters(), models[1].parameters()):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7, msg=name)


def test_a_parameter_may_get_its_first_gradient_later():
    model = MODELS.build(model_cfg())
    wrapper = build_optim_wrapper(model, optim_cfg(fused=True))
    first, later = model.backbone.conv1.weight, model.backbone.bn1.weight  # of one group
    start = later.detach().clone()
    for loss in (lambda: first.sum(), lambda: first.sum() + later.sum()):
        assert torch.equal(later, start)
        wrapper.backward(loss())
        wrapper.update()
    assert not torch.equal(later, start)


def test_bfloat16_is_the_precision_and_has_no_scale():
    """Its scale would double for ever, as nothing overflows."""
    model = MODELS.build(model_cfg())
    wrapper = build_optim_wrapper(model, dict(optim_cfg(), type='CPUAmpOptimWrapper'))
    assert wrapper['segmentor'].cast_dtype == torch.bfloat16
    for _ in range(3):
        wrapper.backward(model.backbone.conv1.weight.sum())
        wrapper.update()
    assert wrapper['segmentor'].loss_scaler.get_scale() == 1
    wrapper = build_optim_wrapper(
        model, dict(optim_cfg(), type='CPUAmpOptimWrapper', dtype='float16'))
    assert wrapper['segmentor'].loss_scaler.get_scale() == 2.**16
    with pytest.raises(InputError, match='requires a GPU'):
        build_optim_wrapper(model, dict(optim_cfg(), type='AmpOptimWrapper'))


def test_frozen_parts_have_no_optimizer():
    model = MODELS.build(model_cfg())
    model.backbone.requires_grad_(False)
    model.decode_head.requires_grad_(False)
    assert set(build_optim_wrapper(model, optim_cfg()).keys()) == {'reconstruction', 'adversary'}


def test_a_part_with_a_constructor_of_its_own():
    """Rates that fall with depth, as mmseg trains BEiT and ConvNeXt."""
    cfg = model_cfg(reconstruction=False)
    cfg.backbone = dict(type='BEiT', img_size=32, patch_size=16, embed_dims=8, num_layers=2,
                        num_heads=1, out_indices=1, init_values=0.1)
    cfg.decode_head.in_channels = 8
    optim = optim_cfg()
    optim['segmentor'] = dict(
        constructor='LearningRateDecayOptimizerConstructor',
        optimizer=dict(type='AdamW', lr=0.1),
        paramwise_cfg=dict(decay_rate=0.5, decay_type='layer_wise', num_layers=2))
    model = MODELS.build(cfg)
    wrapper = build_optim_wrapper(model, optim)
    rates = {p: group['lr'] for group in wrapper['segmentor'].optimizer.param_groups
             for p in group['params']}
    assert [rates[p] for p in (
        model.backbone.patch_embed.projection.weight, model.backbone.layers[0].attn.proj.weight,
        model.backbone.layers[1].attn.proj.weight)] == [0.1 * 0.5**3, 0.1 * 0.5**2, 0.1 * 0.5]
    assert rates[next(model.decode_head.parameters())] == 0.1
    assert {group['lr'] for group in wrapper['adversary'].optimizer.param_groups} == {1e-3}
