"""ROAD's two terms against naive ones."""
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.runner import save_checkpoint

from structseg_mmseg.models.terms import RegionAdversary
from tests.helpers.models import build, domains, model_cfg, optim_cfg
from tests.helpers.passes import run_pass

DISTILLATION, REGIONS = 3., 0.3  # so that no term hides
GRID = (2, 3)


@pytest.fixture
def pretrained(tmp_path):
    """A checkpoint of the small ResNet."""
    path = tmp_path / 'resnet.pth'
    torch.manual_seed(7)
    save_checkpoint(build(double=False, reconstruction=False, adversary=False)
                    .backbone.state_dict(), str(path))
    return path


def road_cfg(pretrained, distillation: bool = True, regions: bool = True) -> dict:
    cfg = model_cfg(False, False)
    cfg['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=str(pretrained))
    if distillation:
        cfg['terms']['distillation'] = dict(
            type='Distillation', loss_weight=DISTILLATION)
    if regions:
        cfg['terms']['adversary'] = dict(
            type='RegionAdversary', grid=GRID, loss_weight=REGIONS,
            discriminator=dict(type='PixelDiscriminator', in_channels=64, channels=(8, )))
    return cfg


def cuts(length: int, parts: int) -> list:
    """Where the parts of a map begin and end: the first ones get what is left over."""
    sizes = [length // parts + (index < length % parts) for index in range(parts)]
    return [(sum(sizes[:index]), sum(sizes[:index + 1])) for index in range(parts)]


def game(discriminators, x, source: bool):
    """Binary cross-entropy of all units, each judged by its own region's classifier."""
    total, position = 0, 0
    for top, bottom in cuts(x.shape[2], GRID[0]):
        for left, right in cuts(x.shape[3], GRID[1]):
            p = torch.sigmoid(discriminators[position](x[:, :, top:bottom, left:right]))
            total = total - (p if source else 1 - p).log().sum()
            position += 1
    return total / (x.shape[0] * x.shape[2] * x.shape[3])


def naive_step(model, E_optimizer, D_optimizer, frozen, data) -> None:
    """Each side's gradient of its own objective."""
    mean = torch.tensor([104., 116., 122.]).double().view(3, 1, 1)
    std = torch.tensor([58., 57., 56.]).double().view(3, 1, 1)
    images = {domain: torch.stack([(i.double() - mean) / std for i in data[domain]['inputs']])
              for domain in ('source', 'target')}
    source, = model.backbone(images['source'])
    target, = model.backbone(images['target'])
    label = torch.stack([s.gt_sem_seg.data[0] for s in data['source']['data_samples']])
    up = F.interpolate(model.decode_head([source]), size=label.shape[1:], mode='bilinear',
                       align_corners=True)
    loss = F.cross_entropy(up, label.long(), ignore_index=255)
    if frozen is not None:
        with torch.no_grad():
            taught, = frozen(images['target'])
        gap = (target - taught).flatten()
        loss = loss + DISTILLATION * gap.dot(gap) / len(gap)
    if D_optimizer is not None:
        discriminators = model.terms['adversary'].discriminator
        L = game(discriminators, source, True) + game(discriminators, target, False)
        learnt = list(discriminators.parameters())
        for p, grad in zip(learnt, torch.autograd.grad(L, learnt, retain_graph=True)):
            p.grad = grad
        loss = loss - REGIONS * L
    learnt = [p for group in E_optimizer.param_groups for p in group['params']]
    for p, grad in zip(learnt, torch.autograd.grad(loss, learnt)):
        p.grad = grad
    E_optimizer.step()
    if D_optimizer is not None:
        D_optimizer.step()


@pytest.mark.parametrize('distillation,regions', [(True, False), (False, True), (True, True)])
def test_step_equals_the_naive_one(pretrained, distillation, regions):
    """The features of 36x52 and 28x44 do not divide by the grid."""
    model = build(cfg=road_cfg(pretrained, distillation, regions)).train()
    naive = deepcopy(model)
    frozen = deepcopy(model.backbone) if distillation else None
    if distillation:
        frozen.eval()
    start = deepcopy(model.state_dict())
    wrapper = build_optim_wrapper(model, optim_cfg())
    assert set(wrapper.keys()) == {'segmentor', *(['adversary'] if regions else [])}
    E = torch.optim.SGD([dict(params=naive.backbone.parameters(), lr=0.01),
                         dict(params=naive.decode_head.parameters(), lr=0.1)],
                        lr=0.01, momentum=0.9, weight_decay=5e-4)
    D = torch.optim.Adam(naive.terms['adversary'].parameters(), 1e-3,
                         (0.9, 0.99)) if regions else None
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        data = domains(generator)
        naive_step(naive, E, D, frozen, deepcopy(data))
        model.train_step(data, wrapper)
    for name, value in naive.named_parameters():
        if name.startswith('terms.distillation'):
            value = frozen.get_parameter(name.removeprefix('terms.distillation.encoder.'))
        else:
            assert not torch.equal(value, start[name]), name
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=1e-10, msg=name)


def test_the_copy_starts_as_e_and_stays(pretrained):
    """Also where weights are loaded after the model is initialised, as load_from does."""
    model = build(cfg=road_cfg(pretrained, regions=False)).train()
    term = model.terms['distillation']
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1)
    loaded = deepcopy(model.backbone.state_dict())
    wrapper = build_optim_wrapper(model, optim_cfg())
    for _ in range(2):
        model.train_step(domains(torch.Generator().manual_seed(0)), wrapper)
        for name, value in loaded.items():
            assert torch.equal(term.encoder.state_dict()[name], value), name
    assert not any(module.training for module in term.encoder.modules())
    assert not any(p.requires_grad for p in term.encoder.parameters())
    # E in evaluation mode, with these weights, gives the same features, so they cost nothing.
    model.backbone.load_state_dict(loaded)
    model.backbone.eval()
    one = run_pass(model, 'target', torch.randn(2, 3, 28, 44).double())
    assert one.losses['distillation.loss_target'] == 0


def test_each_region_has_a_classifier_that_sees_no_other():
    term = RegionAdversary(num_classes=5, discriminator=dict(
        type='PixelDiscriminator', in_channels=4, channels=(3, )))
    assert len(term.discriminator) == 9 and term.loss_weight == 0.01
    x = torch.rand(2, 4, 7, 10)
    whole = term.discriminator(x)
    assert whole.shape == (2, 1, 7, 10)
    for p in term.discriminator[5].parameters():  # the middle row's last
        torch.nn.init.zeros_(p)
    changed = (term.discriminator(x) != whole).nonzero()
    assert changed[:, 2].unique().tolist() == [3, 4]
    assert changed[:, 3].unique().tolist() == [7, 8, 9]
