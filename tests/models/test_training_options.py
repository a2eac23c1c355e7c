"""Precision, accumulation, clipping, recomputed activations, compilation, memory format and fused
optimizers, with one another.

On a CPU; the tests that take a device run on a GPU as well, where there is one.
"""
import itertools
from copy import deepcopy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS

from tests.helpers.models import (batch, build, domains, model_cfg, optim_cfg,
                                  sequential_optimizers, sequential_step)

PARTS = ('segmentor', 'reconstruction', 'adversary')
EXACT = [  # accumulate, clip, recompute, compile, quick (what the configs choose for speed)
    *itertools.product((1, 2), (False, True), (False, True), (False, ), (False, )),
    (1, False, False, True, False), (1, False, False, False, True), (2, True, True, True, True)
]


def compiled(model) -> None:
    """What mmengine's runner does on ``compile=True``."""
    model.train_step = torch.compile(model.train_step, backend='aot_eager')


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=[pytest.mark.gpu, pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a GPU')])])
def device(request):
    return request.param


@pytest.mark.parametrize('accumulate,clip,recompute,compile,quick', EXACT)
def test_options_equal_the_sequential_procedure(device, accumulate, clip, recompute, compile,
                                                quick):
    """5 iterations in float64; k micro-batches against one batch of k times their size.

    The procedure runs on the CPU.
    """
    backbone = dict(model_cfg()['backbone'], type='DeepLabResNet', with_cp=recompute,
                    norm_eval=accumulate > 1)  # batch statistics are a micro-batch's own
    naive = build(backbone=backbone).train()
    model = build(backbone=backbone, channels_last=quick).train().to(device)
    wrapper = build_optim_wrapper(model, optim_cfg(
        quick, accumulative_counts=accumulate, clip_grad=dict(max_norm=0.1) if clip else None))
    optimizers = sequential_optimizers(naive)
    if compile:
        compiled(model)
    start = deepcopy(naive.state_dict())
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        # The mean over valid pixels is a micro-batch's own.
        data = domains(generator, size=2 * accumulate, valid=accumulate > 1)
        sequential_step(naive, optimizers, deepcopy(data), 'non_saturating',
                        max_norm=0.1 if clip else float('inf'))
        for micro in range(accumulate):
            share = slice(2 * micro, 2 * micro + 2)
            model.train_step({domain: {key: value[share] for key, value in part.items()}
                              for domain, part in data.items()}, wrapper)
    state = model.cpu().state_dict()
    for name, value in naive.state_dict().items():
        # Statistics, too, but where they are frozen; what stays as it was, was never trained.
        frozen = accumulate > 1 and name not in dict(naive.named_parameters())
        assert frozen or not torch.equal(value, start[name]), name
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('size', [1, 2])  # torch's kernels differ with it
def test_the_memory_format_may_change_between_checkpoint_and_resume(device, channels_last, size):
    generator = torch.Generator().manual_seed(0)
    first, second = (build(channels_last=c).train().to(device)
                     for c in (channels_last, not channels_last))
    wrappers = [build_optim_wrapper(model, optim_cfg(fused=True)) for model in (first, second)]
    for _ in range(2):
        first.train_step(domains(generator, size), wrappers[0])
    second.load_state_dict(first.state_dict())
    wrappers[1].load_state_dict(deepcopy(wrappers[0].state_dict()))
    for _ in range(2):
        data = domains(generator, size)
        for model, wrapper in zip((first, second), wrappers):
            model.train_step(deepcopy(data), wrapper)
    parameters = dict(second.named_parameters())
    for name, value in first.named_parameters():
        torch.testing.assert_close(parameters[name], value, rtol=0, atol=1e-10, msg=name)


def test_clipping_is_each_optimizers_own():
    """In its own way, without touching the config, and logged under its own name."""
    model = MODELS.build(model_cfg())
    cfg = optim_cfg(clip_grad=dict(type='value', clip_value=0.25))
    cfg['segmentor']['clip_grad'] = dict(max_norm=3.)
    before = deepcopy(cfg)
    wrapper = build_optim_wrapper(model, cfg)
    assert cfg == before
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    count = sum(p.numel() for name, p in model.named_parameters()
                if not name.startswith('terms.'))
    for part in wrapper.values():
        part.step()
    for name, p in model.named_parameters():
        expected = 0.25 if name.startswith('terms.') else 3 / count**0.5
        torch.testing.assert_close(p.grad, torch.full_like(p, expected), rtol=1e-4, atol=0)
    norm = wrapper['segmentor'].message_hub.get_scalar('train/segmentor.grad_norm').current()
    assert norm == pytest.approx(count**0.5, rel=1e-4)


def updates(device, precision, accumulate, clip, recompute, compile, quick, iterations=4) -> dict:
    """What each part's parameters have moved by, as one vector a part."""
    torch.manual_seed(0)
    backbone = dict(model_cfg()['backbone'], type='DeepLabResNet', with_cp=recompute)
    on_cpu = torch.device(device).type == 'cpu'
    # On a CPU, the backward pass of a 1x1 convolution of stride 2 on one image writes outside its
    # memory, in bfloat16 and channels last (torch 2.13).
    channels_last = quick and not (on_cpu and precision != 'float32')
    model = MODELS.build(model_cfg(backbone=backbone, channels_last=channels_last)).to(device)
    model.init_weights()
    cfg = optim_cfg(
        accumulative_counts=accumulate, clip_grad=dict(max_norm=0.5) if clip else None)
    for part in PARTS:
        # Adam would hide a gradient that kept the loss's scale.
        cfg[part]['optimizer'] = dict(type='SGD', lr=1e-3, fused=quick)
    if precision != 'float32':
        cfg.update(type='CPUAmpOptimWrapper' if on_cpu else 'AmpOptimWrapper', dtype=precision,
                   loss_scale=dict(init_scale=2.**7))
    wrapper = build_optim_wrapper(model, cfg)
    start = deepcopy(model.state_dict())
    if compile:
        compiled(model)
    generator = torch.Generator().manual_seed(0)
    for _ in range(iterations):
        logs = model.train_step(dict(source=batch(generator, 36, 52, labelled=True),
                                     target=batch(generator, 28, 44, labelled=False)), wrapper)
        assert all(value.isfinite() for value in logs.values())
    moved = {part: [] for part in ('backbone', 'decode_head', 'terms.reconstruction',
                                   'terms.adversary')}
    for name, p in model.named_parameters():
        part, = (part for part in moved if name.startswith(part))
        moved[part].append((p.detach() - start[name]).flatten())
    return {part: torch.cat(values).cpu() for part, values in moved.items()}


@pytest.mark.parametrize('accumulate,clip,recompute,compile,quick', [
    (1, False, False, False, False), (2, True, False, False, False), (1, True, True, False, False),
    (2, False, True, False, True), (1, False, False, True, False), (2, True, True, True, True)])
@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_mixed_precision_moves_each_part_as_float32_does(device, precision, accumulate, clip,
                                                         recompute, compile, quick):
    """A scale left in some part's gradients would make its step 128 times as long.

    Rounding turns some signs of the reconstruction's L1, hence the wide bounds on E.
    """
    plain = updates(device, 'float32', accumulate, clip, recompute, False, False)
    mixed = updates(device, precision, accumulate, clip, recompute, compile, quick)
    for part, expected in plain.items():
        length = mixed[part].norm() / expected.norm()
        cosine = torch.cosine_similarity(mixed[part], expected, dim=0)
        assert 0.95 < length < 1.05, part
        assert cosine > (0.9 if part == 'backbone' else 0.99), part
