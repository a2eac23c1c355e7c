"""Maximum classifier discrepancy against naive loops of both its forms."""
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper

from structseg_mmseg.models.wrappers import AdaptationDistributedDataParallel
from tests.helpers.models import build, domains, iterate, model_cfg, normed_cfg, optim_cfg
from tests.helpers.passes import run_pass
from tests.helpers.runs import assert_equal_checkpoints, process_group, runner_cfg, spawn, train

WEIGHT, TIMES = 5., 2  # so that d does not hide below a test's tolerance
FORMS = ('steps', 'reversal')


def mcd_cfg(form: str, normed: bool = False, **kwargs) -> dict:
    cfg = (normed_cfg if normed else model_cfg)(False, False)
    cfg['auxiliary_head'] = deepcopy(cfg['decode_head'])
    cfg['terms']['discrepancy'] = dict(type='Discrepancy', loss_weight=WEIGHT)
    if form == 'steps':
        cfg['steps'] = [dict(name='A', passes=['source']),
                        dict(name='B', passes=['source', 'target'], parts=['heads']),
                        dict(name='C', passes=['target'], parts=['segmentor'], times=TIMES)]
    cfg.update(kwargs)
    return cfg


def mcd_optim() -> dict:
    return optim_cfg(heads=dict(
        modules=['decode_head', 'auxiliary_head'],
        optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)))


class Naive:
    """E, two classifiers, two optimizers and what public code of the method does with them."""

    def __init__(self, model) -> None:
        self.E, self.F1, self.F2 = model.backbone, model.decode_head, model.auxiliary_head
        self.encoder = list(self.E.parameters())
        self.heads = [*self.F1.parameters(), *self.F2.parameters()]
        options = dict(momentum=0.9, weight_decay=5e-4)
        self.of_E = torch.optim.SGD(self.encoder, lr=0.01, **options)
        self.of_heads = torch.optim.SGD(self.heads, lr=0.05, **options)

    def probabilities(self, batch):
        mean = torch.tensor([104., 116., 122.]).double().view(3, 1, 1)
        std = torch.tensor([58., 57., 56.]).double().view(3, 1, 1)
        images = torch.stack([(image.double() - mean) / std for image in batch['inputs']])
        x = self.E(images)
        return [F.interpolate(head(x), size=images.shape[2:], mode='bilinear',
                              align_corners=True).softmax(1) for head in (self.F1, self.F2)]

    def supervised(self, batch):
        label = torch.stack([sample.gt_sem_seg.data[0] for sample in batch['data_samples']])
        valid = label != 255
        return sum(-p.gather(1, label.where(valid, 0)[:, None])[:, 0][valid].log().mean()
                   for p in self.probabilities(batch))

    def discrepancy(self, batch):
        first, second = self.probabilities(batch)
        return WEIGHT * (first - second).abs().mean()

    def step(self, loss, *optimizers):
        self.of_E.zero_grad(), self.of_heads.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    def steps(self, data):
        source, target = data['source'], data['target']
        self.step(self.supervised(source), self.of_E, self.of_heads)
        self.step(self.supervised(source) - self.discrepancy(target), self.of_heads)
        for _ in range(TIMES):
            self.step(self.discrepancy(target), self.of_E)

    def reversal(self, data):
        """Each side's gradient of its own objective, from the same parameters."""
        supervised, d = self.supervised(data['source']), self.discrepancy(data['target'])
        for loss, parameters in ((supervised + d, self.encoder), (supervised - d, self.heads)):
            for p, grad in zip(parameters, torch.autograd.grad(
                    loss, parameters, retain_graph=True)):
                p.grad = grad
        self.of_E.step(), self.of_heads.step()


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('normed', [False, True])
def test_iteration_equals_the_naive_one(form, normed):
    """Parameters and the running statistics of batch normalisation, in E or in the heads, too."""
    model = build(cfg=mcd_cfg(form, normed)).train()
    naive_model = deepcopy(model)
    start = deepcopy(model.state_dict())
    first, second = (list(head.parameters())[0] for head in (model.decode_head,
                                                             model.auxiliary_head))
    assert not torch.equal(first, second)  # another initialisation
    naive = Naive(naive_model)
    wrapper = build_optim_wrapper(model, mcd_optim())
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        data = domains(generator)
        getattr(naive, form)(deepcopy(data))
        model.train_step(data, wrapper)
    for name, value in naive_model.state_dict().items():
        assert not torch.equal(value, start[name]), f'{name} was never trained'
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=1e-10, msg=name)


def test_log():
    """d is a mean: two certain heads that never agree on one of 5 classes differ by 2 / 5."""
    model = build(cfg=mcd_cfg('steps')).train()
    for index, head in enumerate((model.decode_head, model.auxiliary_head)):
        for p in head.parameters():
            torch.nn.init.zeros_(p)
        torch.nn.init.constant_(head.conv_seg[0].bias[index:index + 1], 1e4)
    losses = run_pass(model, 'target', torch.randn(1, 3, 28, 44).double()).losses
    torch.testing.assert_close(losses['discrepancy.d'].item(), 0.4)
    torch.testing.assert_close(losses['discrepancy.loss_target'].item(), -0.4 * WEIGHT)
    logs = build(cfg=mcd_cfg('steps')).train().train_step(
        domains(torch.Generator().manual_seed(0)), build_optim_wrapper(model, mcd_optim()))
    assert {'A.decode.loss_ce', 'A.aux.loss_ce', 'B.aux.loss_ce', 'B.discrepancy.d',
            'C.discrepancy.d'} <= logs.keys()


def test_it_resumes(trees, tmp_path):
    def cfg(name, iterations):
        return runner_cfg(trees, tmp_path / name, iterations, model=mcd_cfg('steps'),
                          optim_wrapper=mcd_optim(), param_scheduler=[])
    straight, _ = train(cfg('straight', 4))
    assert set(straight['optimizer']) == {'segmentor', 'heads'}
    train(cfg('resumed', 2))
    resumed, _ = train(dict(cfg('resumed', 4), resume=True))
    assert_equal_checkpoints(straight, resumed)


def frozen_statistics(form):
    return mcd_cfg(form, backbone=dict(model_cfg()['backbone'], norm_eval=True))


def work(rank, folder):
    with process_group(rank, 2, folder):
        for form in FORMS:
            model = AdaptationDistributedDataParallel(build(cfg=frozen_statistics(form)).train())
            iterate(model, mcd_optim(), slice(2 * rank, 2 * rank + 2))
            torch.save(model.module.state_dict(), f'{folder}/{form}.{rank}.pth')


def test_two_ranks_equal_one_that_sees_all(tmp_path):
    spawn(work, args=(str(tmp_path), ), nprocs=2)
    for form in FORMS:
        first, second = (torch.load(tmp_path / f'{form}.{rank}.pth') for rank in range(2))
        model = build(cfg=frozen_statistics(form)).train()
        iterate(model, mcd_optim())
        for key, value in model.named_parameters():
            assert torch.equal(first[key], second[key]), key
            torch.testing.assert_close(first[key], value.detach(), rtol=0, atol=1e-10, msg=key)
