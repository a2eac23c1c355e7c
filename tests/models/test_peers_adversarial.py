"""The adversarial peers against their procedures, written naively: a backward for each loss."""
from collections import deque
from copy import deepcopy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper

from structseg_mmseg.models.terms import Adversary
from tests.helpers.models import batch, build, model_cfg, optim_cfg
from tests.helpers.runs import assert_equal_checkpoints, runner_cfg, spawn, train

WEIGHTS = dict(decode_head=0.3, auxiliary_head=0.2)  # large, so that no term hides
MEAN = torch.tensor([104., 116., 122.]).double().view(3, 1, 1)
STD = torch.tensor([58., 57., 56.]).double().view(3, 1, 1)


def domains(generator) -> dict:
    """A batch of each domain, large enough for FCDiscriminator."""
    return dict(source=batch(generator, 36, 68, labelled=True),
                target=batch(generator, 44, 52, labelled=False))


def images_of(data: dict) -> torch.Tensor:
    return torch.stack([(image.double() - MEAN) / STD for image in data['inputs']])


def cross_entropy(logits: torch.Tensor, samples: list) -> torch.Tensor:
    label = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    up = F.interpolate(logits, size=label.shape[1:], mode='bilinear', align_corners=True)
    return F.cross_entropy(up, label, ignore_index=255)


def assert_equal_states(model, naive, start) -> None:
    for name, value in naive.state_dict().items():
        assert not torch.equal(value, start[name]), f'{name} was never trained'
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=1e-10, msg=name)


def adam(lr: float) -> dict:
    return dict(optimizer=dict(type='Adam', lr=lr, betas=(0.9, 0.99)))


def two_levels(of: str, mode: str) -> dict:
    cfg = model_cfg(reconstruction=False, adversary=False)
    cfg['backbone'].update(out_indices=(2, 3))
    cfg['auxiliary_head'] = dict(cfg['decode_head'], in_channels=32, in_index=0, loss_decode=dict(
        type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.1))
    cfg['terms'] = {
        f'adversary_{head}': dict(
            type='Adversary', discriminator=dict(type='FCDiscriminator', channels=4), of=of,
            head=head, mode=mode, size='image', loss_weight=weight)
        for head, weight in WEIGHTS.items()}
    return cfg


def entropy(p: torch.Tensor) -> torch.Tensor:
    return -p * p.log() / torch.tensor(p.shape[1]).double().log()


@pytest.mark.parametrize('of,mode', [
    ('softmax', 'non_saturating'), ('softmax', 'least_squares'), ('entropy', 'non_saturating')])
def test_two_levels_equal_the_sequential_procedure(of, mode):
    """AdaptSegNet's and ADVENT's: two heads, two D, of which neither sees the other's map.

    Their labels of the domains are swapped, and each D's two losses halved, which its Adam undoes
    but for its epsilon; here neither is.
    """
    model = build(cfg=two_levels(of, mode)).train()
    naive = deepcopy(model)
    start = deepcopy(model.state_dict())
    cfg = optim_cfg(**{f'adversary_{head}': adam(1e-3) for head in WEIGHTS})
    cfg['segmentor']['paramwise_cfg']['custom_keys'].update(auxiliary_head=dict(lr_mult=10))
    wrapper = build_optim_wrapper(model, cfg)
    E, heads = naive.backbone, {head: getattr(naive, head) for head in WEIGHTS}
    D = {head: naive.terms[f'adversary_{head}'].discriminator for head in WEIGHTS}
    optimizers = [torch.optim.SGD(
        [dict(params=E.parameters(), lr=0.01),
         *(dict(params=head.parameters(), lr=0.1) for head in heads.values())],
        lr=0.01, momentum=0.9, weight_decay=5e-4)]
    optimizers += [torch.optim.Adam(d.parameters(), 1e-3, (0.9, 0.99)) for d in D.values()]

    def game(d, source: bool):
        """What -log P(source) or -log P(target) is, or its square."""
        if mode == 'least_squares':
            return ((d - float(source))**2).mean()
        p = torch.sigmoid(d)
        return -torch.log(p if source else 1 - p).mean()

    def forward(data):
        images = images_of(data)
        res4, res5 = E(images)
        logits = dict(decode_head=heads['decode_head']([res5]),
                      auxiliary_head=heads['auxiliary_head']([res4]))
        maps = {}
        for head, value in logits.items():
            up = F.interpolate(value, images.shape[2:], mode='bilinear', align_corners=True)
            maps[head] = entropy(up.softmax(1)) if of == 'entropy' else up.softmax(1)
        return logits, maps

    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        data = domains(generator)
        for optimizer in optimizers:
            optimizer.zero_grad()
        logits, source = forward(data['source'])
        samples = data['source']['data_samples']
        (cross_entropy(logits['decode_head'], samples)
         + 0.1 * cross_entropy(logits['auxiliary_head'], samples)).backward()
        _, target = forward(data['target'])
        for head, d in D.items():
            d.requires_grad_(False)
            (WEIGHTS[head] * game(d(target[head]), True)).backward(retain_graph=True)
            d.requires_grad_(True)
        for head, d in D.items():
            game(d(source[head].detach()), True).backward()
            game(d(target[head].detach()), False).backward()
        for optimizer in optimizers:
            optimizer.step()
        logs = model.train_step(data, wrapper)
    assert_equal_states(model, naive, start)
    assert {'adversary_auxiliary_head.acc_source', 'aux.loss_ce', 'decode.loss_ce',
            'adversary_decode_head.loss_target'} <= logs.keys()


@pytest.mark.parametrize('mode', ['minimax', 'confusion'])
def test_a_game_on_features_equals_the_sequential_procedure(mode):
    """RAN's, max_F min_D (up to its sign), and FCNs' in the wild: S never meets the target."""
    cfg = model_cfg(reconstruction=False)
    cfg['terms']['adversary'].update(
        of='features', mode=mode, loss_weight=0.2, discriminator=dict(
            type='ASPPDiscriminator', in_channels=64, channels=4, first_layer=False))
    model = build(cfg=cfg).train()
    naive = deepcopy(model)
    start = deepcopy(model.state_dict())
    wrapper = build_optim_wrapper(model, optim_cfg())
    E, S, D = naive.backbone, naive.decode_head, naive.terms['adversary'].discriminator
    optimizers = [
        torch.optim.SGD(
            [dict(params=E.parameters(), lr=0.01), dict(params=S.parameters(), lr=0.1)],
            lr=0.01, momentum=0.9, weight_decay=5e-4),
        torch.optim.Adam(D.parameters(), 1e-3, (0.9, 0.99))]
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        data = domains(generator)
        for optimizer in optimizers:
            optimizer.zero_grad()
        features = {domain: E(images_of(part))[0] for domain, part in data.items()}
        cross_entropy(S([features['source']]), data['source']['data_samples']).backward(
            retain_graph=True)
        D.requires_grad_(False)
        for domain, x in features.items():
            p = torch.sigmoid(D(x))
            right = torch.log(p if domain == 'source' else 1 - p).mean()
            half = -(torch.log(p) + torch.log(1 - p)).mean() / 2
            (0.2 * (right if mode == 'minimax' else half)).backward()
        D.requires_grad_(True)
        for domain, x in features.items():
            p = torch.sigmoid(D(x.detach()))
            (-torch.log(p if domain == 'source' else 1 - p).mean()).backward()
        for optimizer in optimizers:
            optimizer.step()
        model.train_step(data, wrapper)
    assert_equal_states(model, naive, start)


STEPS = [
    dict(name='discriminator', passes=['source', 'target'], parts=['adversary']),
    dict(name='game', passes=['target'], parts=['segmentor'], when='adversary'),
    dict(name='task', passes=['source'], parts=['segmentor'])]


def test_steps_that_wait_for_d_equal_the_sequential_procedure():
    """CyCADA's feature stage: D; E and S, if D is good; E and S on the source's labels."""
    cfg = model_cfg(reconstruction=False,
                    backbone=dict(model_cfg()['backbone'], norm_eval=True))
    cfg['terms']['adversary'].update(
        of='logits', size='image', loss_weight=0.1, ready_above=49.97,
        discriminator=dict(type='PixelDiscriminator', channels=(8, 4)))
    cfg['steps'] = STEPS
    model = build(cfg=cfg).train()
    naive = deepcopy(model)
    start = deepcopy(model.state_dict())
    wrapper = build_optim_wrapper(model, optim_cfg())
    E, S, D = naive.backbone, naive.decode_head, naive.terms['adversary'].discriminator
    task = torch.optim.SGD(
        [dict(params=E.parameters(), lr=0.01), dict(params=S.parameters(), lr=0.1)],
        lr=0.01, momentum=0.9, weight_decay=5e-4)
    discriminate = torch.optim.Adam(D.parameters(), 1e-3, (0.9, 0.99))

    def look(data):
        return F.interpolate(S(E(images_of(data))), data['inputs'][0].shape[1:], mode='bilinear',
                             align_corners=True)

    generator = torch.Generator().manual_seed(0)
    accuracies, taken = deque([50.] * 100, maxlen=100), []
    for _ in range(8):
        data = domains(generator)
        with torch.no_grad():
            seen = {domain: look(part) for domain, part in data.items()}
        d = {domain: D(x) for domain, x in seen.items()}
        discriminate.zero_grad()
        (-torch.log(d['source'].sigmoid()).mean()
         - torch.log(1 - d['target'].sigmoid()).mean()).backward()
        discriminate.step()
        accuracies.append(50 * ((d['source'] > 0).double().mean()
                                + (d['target'] < 0).double().mean()).item())
        taken.append(sum(accuracies) / 100 > 49.97)
        if taken[-1]:
            task.zero_grad()
            (-0.1 * torch.log(D(look(data['target'])).sigmoid()).mean()).backward()
            task.step()
        task.zero_grad()
        logits = S(E(images_of(data['source'])))
        cross_entropy(logits, data['source']['data_samples']).backward()
        task.step()
        logs = model.train_step(data, wrapper)
        assert ('game.adversary.loss_target' in logs) == taken[-1]
    assert set(taken) == {False, True}
    naive.terms['adversary'].accuracies.copy_(torch.tensor(accuracies))
    for name, value in model.state_dict().items():  # D counts in single precision
        atol = 1e-4 if 'accuracies' in name else 1e-10
        torch.testing.assert_close(value, naive.state_dict()[name], rtol=0, atol=atol, msg=name)
    assert any(not torch.equal(value, start[name]) for name, value in naive.state_dict().items())


def agree(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    term = Adversary(num_classes=5, discriminator=dict(type='ASPPDiscriminator'), ready_above=60)
    ready = []
    for accuracies in ((70., 48.), (75., 48.), (48., 75.)):  # of each rank
        term.accuracies.fill_(accuracies[rank])
        ready.append(term.ready)
    dist.destroy_process_group()
    assert ready == [False, True, True]


def test_ranks_agree_on_whether_d_is_good(tmp_path):
    spawn(agree, args=(str(tmp_path), ), nprocs=2)


def test_the_gate_resumes(trees, tmp_path):
    """Bitwise: what D was right in is beside the weights."""
    cfg = model_cfg(reconstruction=False)
    cfg['terms']['adversary'].update(of='logits', ready_above=49.9)
    cfg['steps'] = STEPS

    def run(name, iterations, **kwargs):
        return train(runner_cfg(trees, tmp_path / name, iterations, model=cfg, **kwargs))[0]
    straight = run('straight', 4)
    run('resumed', 2)
    assert_equal_checkpoints(straight, run('resumed', 4, resume=True))
    accuracies = straight['state_dict']['terms.adversary.accuracies']
    assert (accuracies[:-4] == 50).all() and not (accuracies == 50).all()
