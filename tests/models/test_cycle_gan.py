"""CycleGAN against its procedure, written naively, and what it takes to train and resume."""
from copy import deepcopy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS

from structseg_mmseg.errors import InputError, NonFiniteLossError
from structseg_mmseg.models.translators import CycleGAN, PatchDiscriminator, ResNetGenerator
from structseg_mmseg.models.translators.cycle_gan import ImagePool
from tests.helpers.models import CROP, batch, translator_cfg
from tests.helpers.runs import assert_equal_checkpoints, runner_cfg, train

ADAM = dict(optimizer=dict(type='Adam', lr=2e-4, betas=(0.5, 0.999)))


def optim_cfg(**kwargs) -> dict:
    return dict(
        constructor='AdaptationOptimWrapperConstructor',
        type='OptimWrapper',
        generators=dict(modules=['to_target', 'to_source'], **ADAM),
        discriminators=dict(modules=['target_discriminator', 'source_discriminator'], **ADAM),
        **kwargs)


def build(**kwargs) -> CycleGAN:
    torch.manual_seed(0)
    model = MODELS.build(translator_cfg(**kwargs))
    model.init_weights()
    return model.train()


def domains(generator) -> dict:
    return {domain: batch(generator, *CROP, labelled=False) for domain in ('source', 'target')}


def test_an_iteration_equals_the_sequential_procedure():
    """A backward for each loss; pools as lists; draws from the same generator."""
    model = build(preprocessor='DoublePreProcessor').double()
    naive = deepcopy(model)
    start = deepcopy(model.state_dict())
    wrapper = build_optim_wrapper(model, optim_cfg())
    F, G = naive.to_target, naive.to_source
    D = [naive.target_discriminator, naive.source_discriminator]
    generate, discriminate = (
        torch.optim.Adam([p for net in nets for p in net.parameters()], 2e-4, (0.5, 0.999))
        for nets in ((F, G), D))
    pools = [], []
    exchanged = 0

    def query(pool, images):
        nonlocal exchanged
        shown = []
        for image in images:
            if len(pool) < 3:
                pool.append(image)
            elif torch.rand(()) < 0.5:
                place = torch.randint(3, ()).item()
                pool[place], image = image, pool[place]
                exchanged += 1
            shown.append(image)
        return torch.stack(shown)

    generator = torch.Generator().manual_seed(0)
    for iteration in range(5):
        data = domains(generator)
        s, t = (torch.stack(data[domain]['inputs']).double() / 127.5 - 1
                for domain in ('source', 'target'))
        torch.manual_seed(iteration)
        generate.zero_grad()
        for loss in (
                lambda: ((D[0](F(s)) - 1)**2).mean(), lambda: ((D[1](G(t)) - 1)**2).mean(),
                lambda: 10 * (G(F(s)) - s).abs().mean(), lambda: 10 * (F(G(t)) - t).abs().mean(),
                lambda: 5 * (F(t) - t).abs().mean(), lambda: 5 * (G(s) - s).abs().mean()):
            loss().backward()
        with torch.no_grad():
            fakes = F(s), G(t)
        generate.step()
        discriminate.zero_grad()
        for d, pool, real, fake in zip(D, pools, (t, s), fakes):
            (((d(real) - 1)**2).mean() / 2).backward()
            ((d(query(pool, fake))**2).mean() / 2).backward()
        discriminate.step()
        torch.manual_seed(iteration)
        logs = model.train_step(data, wrapper)
    assert exchanged > 2
    for name, value in naive.named_parameters():
        assert not torch.equal(value, start[name]), f'{name} was never trained'
        torch.testing.assert_close(model.get_parameter(name), value, rtol=0, atol=1e-10, msg=name)
    for pool, images in zip((model.target_pool, model.source_pool), pools):
        torch.testing.assert_close(pool.images, torch.stack(images), rtol=0, atol=1e-10)
    assert {'generators.loss_cycle', 'discriminators.loss_source'} <= logs.keys()


def test_gradients_of_one_image_are_derivatives():
    """Instance normalisation's backward on a CPU has been wrong for one image before."""
    torch.manual_seed(0)
    F, D = (net.double() for net in (ResNetGenerator(2, 1), PatchDiscriminator(2)))
    image = torch.randn(1, 3, 24, 28).double()
    loss = (D(F(image))**2).mean()
    loss.backward()
    for net in (F, D):
        for p in net.parameters():
            direction = torch.randn_like(p)
            ends = []
            with torch.no_grad():
                for step in (1e-6, -2e-6, 1e-6):
                    p += step * direction
                    ends.append((D(F(image))**2).mean())
            torch.testing.assert_close(
                (p.grad * direction).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-8)


def test_networks_keep_or_refuse_sizes():
    F, D = ResNetGenerator(2, 1), PatchDiscriminator(2)
    for size in ((24, 24), (28, 40)):
        image = torch.randn(1, 3, *size)
        assert F(image).shape == image.shape and F(image).abs().max() <= 1
        assert D(image).shape == (1, 1, size[0] // 8 - 2, size[1] // 8 - 2)
    with pytest.raises(InputError, match='images of 24x26 another size: .* sides 4 divides'):
        F(torch.randn(1, 3, 26, 24))
    with pytest.raises(InputError, match='images of 23x30 are too small .* 24x24'):
        D(torch.randn(1, 3, 30, 23))


@pytest.mark.parametrize('order', [{}, dict(bgr_to_rgb=True)])
def test_predictions_have_the_images_size_range_and_channels(order):
    model = build().eval()
    model.data_preprocessor = MODELS.build(dict(
        translator_cfg()['data_preprocessor'], **order))
    image = torch.randint(0, 256, (3, 27, 33), dtype=torch.uint8)
    model.to_target = torch.nn.Identity()
    model.to_target.stride = 4
    assert torch.equal(model.test_step(dict(inputs=[image]))[0], image)


def test_a_pool():
    """Its first images pass; then about half are exchanged, and what comes out was put in."""
    torch.manual_seed(0)
    pool = ImagePool(5, (1, 1))
    images = torch.arange(1., 401).view(400, 1, 1, 1).expand(-1, 3, 1, 1)
    shown = torch.cat([pool(image[None]) for image in images])
    assert torch.equal(shown[:5], images[:5])
    old = (shown != images)[:, 0].flatten()
    assert 160 < old.sum() < 240
    assert (shown[old] < images[old]).all()
    inside = pool.images[:, 0].flatten().tolist()
    assert len(set(inside)) == 5  # none twice
    assert sorted(shown[:, 0].flatten().tolist() + inside) == sorted(
        images[:, 0].flatten().tolist() + shown[:5, 0].flatten().tolist())


def translation_cfg(trees, work_dir, max_iters, **kwargs):
    crop = dict(type='RandomCrop', crop_size=CROP)
    return runner_cfg(
        trees, work_dir, max_iters, augment=[crop, dict(type='RandomFlip', prob=0.5)],
        source_batch=1, model=translator_cfg(), optim_wrapper=optim_cfg(), **kwargs)


def test_resume_is_exact(trees, tmp_path):
    """4 + 4 iterations give the bits of 8, pools included, by the project's checkpoints."""
    def run(name, iterations, **kwargs):
        cfg = translation_cfg(trees, tmp_path / name, iterations, **kwargs)
        cfg['default_hooks']['checkpoint'].update(type='AtomicCheckpointHook')
        return train(cfg)[0]
    straight = run('straight', 8)
    run('resumed', 4)
    assert_equal_checkpoints(straight, run('resumed', 8, resume=True))
    assert straight['state_dict']['target_pool.count'] == 3
    assert set(straight['optimizer']) == {'generators', 'discriminators'}


def test_what_it_refuses(trees, tmp_path, monkeypatch):
    with pytest.raises(InputError, match='a CycleGAN needs target images: set target_dataloader'):
        train(translation_cfg(trees, tmp_path, 1, target_dataloader=None))
    cfg = translation_cfg(trees, tmp_path, 1)
    cfg['model']['crop_size'] = (24, 24)
    with pytest.raises(InputError, match='images of 24x32 .* model.crop_size is 24x24'):
        train(cfg)
    model = build()
    torch.nn.init.constant_(model.to_source.layers[-1].conv.bias, float('nan'))
    with pytest.raises(NonFiniteLossError, match='the loss of the generators is not finite'):
        model.train_step(domains(torch.Generator().manual_seed(0)),
                         build_optim_wrapper(model, optim_cfg()))
    monkeypatch.setattr('structseg_mmseg.models.translators.cycle_gan.get_world_size', lambda: 2)
    with pytest.raises(InputError, match='trains in one process'):
        build()


def test_mixed_precision_takes_steps():
    model = build()
    wrapper = build_optim_wrapper(model, dict(optim_cfg(), type='CPUAmpOptimWrapper'))
    generator = torch.Generator().manual_seed(0)
    start = deepcopy(dict(model.named_parameters()))
    for _ in range(3):
        model.train_step(domains(generator), wrapper)
    assert all(not torch.equal(p, start[name]) and p.isfinite().all()
               for name, p in model.named_parameters())
