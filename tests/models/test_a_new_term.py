"""A term that only this file knows: docs/add_a_method.md's, and one that uses all there is."""
import re
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch, Branches, Pass, View
from structseg_mmseg.models.terms import Term
from structseg_mmseg.models.wrappers import AdaptationDistributedDataParallel
from tests.helpers import ROOT
from tests.helpers.models import (batch, build, domains, iterate, model_cfg, normed_cfg,
                                  optim_cfg)
from tests.helpers.passes import run_pass
from tests.helpers.runs import assert_equal_checkpoints, process_group, runner_cfg, spawn, train

PAGE = (ROOT / 'docs/add_a_method.md').read_text()
for code in re.findall(r'```python\n((?:from|@MODELS).*?)```', PAGE, re.DOTALL):
    exec(code)  # defines MeanColour and MeanTeacher


@MODELS.register_module()
class Everything(Term):
    """Logits of two heads, what one pass keeps for another, a mixed pass, an average of E."""

    passes = ('target', 'source', 'mixed')
    heads = ('decode_head', 'auxiliary_head')

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer('average', torch.zeros(()))

    def loss(self, view):
        if view.name == 'mixed':
            p = view.logits()
            return dict(loss_entropy=-(p.softmax(1) * p.log_softmax(1)).mean())
        gap = view.logits('decode_head') - view.logits('auxiliary_head')
        if view.name == 'target':
            view.notes['gap'] = gap.detach().mean()
            return dict(loss_gap=self.scale * gap.abs().mean())
        if 'gap' not in view.notes:  # a step of the source alone
            return {}
        return dict(loss_like=self.scale * (gap.mean() - view.notes['gap'])**2)

    def prepare(self, batches):
        size = [min(sizes) for sizes in zip(*(b.inputs.shape[2:] for b in batches.values()))]
        crops = [b.inputs[..., :size[0], :size[1]] for b in batches.values()]
        batches['mixed'] = Batch(sum(crops) / len(crops), batches['target'].data_samples)

    def after_iter(self):
        weight = next(self.segmentor.backbone.parameters())
        self.average.lerp_(weight.detach().mean(), 0.1)


@MODELS.register_module()
class TargetOnly(Term):
    """A network that the target's pass alone trains, and one that nothing trains."""

    passes = ('target', )

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.predict = nn.Conv2d(64, 1, 1)
        self.idle = nn.Conv2d(64, 1, 1)

    def loss(self, view):
        return dict(loss_target=self.predict(view.features()[-1]).square().mean())


@MODELS.register_module()
class Noise(Term):
    """Noise on each target image."""

    passes = ('noisy', )

    def prepare(self, batches):
        target = batches['target']
        noise = [torch.randn(image.shape, generator=generator) for image, generator in zip(
            target.inputs, target.generators('noise'))]
        batches['noisy'] = replace(target, inputs=target.inputs + torch.stack(noise))

    def loss(self, view):
        return dict(loss=view.logits().square().mean())


def cfg_with(term: str) -> dict:
    """The paper's model with one term more."""
    cfg = model_cfg(backbone=dict(model_cfg()['backbone'], norm_eval=True))
    cfg['terms'][term.lower()] = dict(type=term)
    if term == 'MeanColour':
        cfg['terms'][term.lower()].update(in_channels=64)
    if term == 'MeanTeacher':
        cfg['terms'][term.lower()].update(threshold=0.21)
    if term == 'Everything':
        cfg['auxiliary_head'] = dict(cfg['decode_head'], loss_decode=dict(
            type='CrossEntropyLoss', loss_weight=0.4))
    return cfg


def optim_with(term: str, **kwargs) -> dict:
    return optim_cfg(**{term.lower(): dict(optimizer=dict(type='SGD', lr=0.01))}, **kwargs)


LOGS = {
    'MeanColour': {'meancolour.loss_source', 'meancolour.loss_target'},
    'Everything': {'everything.loss_gap', 'everything.loss_like', 'everything.loss_entropy',
                   'aux.loss_ce', 'mixed.grad_norm_seg'},
    'MeanTeacher': {'meanteacher.loss_ce', 'pseudo.grad_norm_seg'},
}


@pytest.mark.parametrize('term', LOGS)
def test_it_trains_and_resumes(term, trees, tmp_path):
    """Bitwise, with every loss in the log and an optimizer of its own."""
    def cfg(name, iterations):
        return runner_cfg(trees, tmp_path / name, iterations, model=cfg_with(term),
                          optim_wrapper=optim_with(term))
    straight, _ = train(cfg('straight', 4))
    assert set(straight['optimizer']) == {'segmentor', 'reconstruction', 'adversary'} | (
        set() if term == 'MeanTeacher' else {term.lower()})
    train(cfg('resumed', 2))
    resumed, _ = train(dict(cfg('resumed', 4), resume=True))
    assert_equal_checkpoints(straight, resumed)
    keys = [key for key in straight['state_dict'] if key.startswith(f'terms.{term.lower()}.')]
    assert keys
    logged = {key.removeprefix('train/')
              for key in straight['message_hub']['log_scalars'] if key.startswith('train/')}
    assert LOGS[term] <= logged


# A term and the order of updates.
CASES = dict(MeanColour=('MeanColour', None), Everything=('Everything', None),
             target_alone=('MeanColour', [dict(passes=('target', ))]),
             TargetOnly=('TargetOnly', None), MeanTeacher=('MeanTeacher', None),
             Noise=('Noise', None))


def work(rank, folder):
    with process_group(rank, 2, folder):
        for case, (term, steps) in CASES.items():
            model = AdaptationDistributedDataParallel(
                build(cfg=dict(cfg_with(term), steps=steps)).train())
            iterate(model, optim_with(term), slice(2 * rank, 2 * rank + 2))
            torch.save(model.module.state_dict(), f'{folder}/{case}.{rank}.pth')


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    spawn(work, args=(str(folder), ), nprocs=2)
    return folder


@pytest.mark.parametrize('case', [case for case in CASES if case != 'Everything'])
def test_two_ranks_equal_one_that_sees_all(ranks, case):
    first, second = (torch.load(ranks / f'{case}.{rank}.pth') for rank in range(2))
    term, steps = CASES[case]
    model = build(cfg=dict(cfg_with(term), steps=steps)).train()
    iterate(model, optim_with(term))
    start = build(cfg=cfg_with(term)).state_dict()
    for key, value in model.named_parameters():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value.detach(), rtol=0, atol=1e-10, msg=key)
        still = 'idle' in key or (case == 'target_alone' and 'adversary' in key)
        assert torch.equal(first[key], start[key]) == still, key


def test_two_ranks_with_all_there_is_stay_identical(ranks):
    """Its losses are no means over images, so no single rank equals two."""
    first, second = (torch.load(ranks / f'Everything.{rank}.pth') for rank in range(2))
    start = build(cfg=cfg_with('Everything')).state_dict()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert all(not torch.equal(value, start[key]) for key, value in first.items()
               if 'bn' not in key and 'downsample.1' not in key)


@pytest.mark.parametrize('head', ['decode_head', 'auxiliary_head'])
def test_each_head_decodes_once_a_pass(head):
    """However many terms look: the adversary's, the new one's and the supervised loss."""
    model = build(cfg=cfg_with('Everything')).train()
    calls, forward = [], getattr(model, head).forward
    getattr(model, head).forward = lambda x: calls.append(1) or forward(x)
    model.train_step(domains(torch.Generator().manual_seed(0)),
                     build_optim_wrapper(model, optim_with('Everything')))
    assert len(calls) == 2 + (head == 'decode_head')  # the mixed pass asks for one


STEPS = [
    dict(name='a', passes=('source', )),
    dict(name='b', passes=('source', 'target'), parts=('heads', 'everything')),
    dict(name='c', passes=('target', ), parts=('segmentor', ), times=2),
]


def heads_apart(**kwargs) -> dict:
    return optim_with('Everything', heads=dict(
        modules=['decode_head', 'auxiliary_head'], optimizer=dict(type='SGD', lr=0.01)), **kwargs)


def test_steps_update_their_parts_alone():
    cfg = dict(cfg_with('Everything'), steps=STEPS)
    cfg['terms'].update(reconstruction=None)
    model = build(cfg=cfg).train()
    wrapper = build_optim_wrapper(model, heads_apart())
    moved, update = [], wrapper.update

    def watch(*args, **kwargs):
        before = deepcopy(dict(model.named_parameters()))
        updated = update(*args, **kwargs)
        moved.append({key.split('.')[0 if key[0] != 't' else 1]
                      for key, p in model.named_parameters() if not torch.equal(p, before[key])})
        return updated

    wrapper.update = watch
    logs = model.train_step(domains(torch.Generator().manual_seed(0)), wrapper)
    heads = {'decode_head', 'auxiliary_head'}
    assert moved == [{'backbone'} | heads, {'everything'} | heads,
                     {'backbone'}, {'backbone'}]
    assert {'a.decode.loss_ce', 'b.everything.loss_like', 'c.everything.loss_gap'} <= logs.keys()
    assert not any(key.startswith('a.adversary') for key in logs)


def test_steps_share_a_loss_scale_and_clip():
    """Mixed precision's updates are near the plain ones; a part without gradients is left out."""
    moved = {}
    for precision in (dict(), dict(type='CPUAmpOptimWrapper', loss_scale=64.)):
        model = build(cfg=dict(cfg_with('Everything'), steps=STEPS), double=False).train()
        start = deepcopy(model.state_dict())
        wrapper = build_optim_wrapper(model, dict(
            heads_apart(clip_grad=dict(max_norm=1.)), **precision))
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            model.train_step(domains(generator), wrapper)
        for part in ('backbone', 'decode_head', 'terms.everything', 'terms.adversary'):
            change = torch.cat([(p.detach() - start[name]).flatten()
                                for name, p in model.named_parameters() if name.startswith(part)])
            moved.setdefault(part, []).append(change)
    for part, (plain, mixed) in moved.items():
        if part == 'terms.adversary':  # no step names it while the target passes
            assert not plain.any() and not mixed.any()
        else:
            assert torch.cosine_similarity(plain, mixed, dim=0) > 0.9, part


def test_a_single_step_may_be_taken_several_times():
    model = build(steps=[dict(times=3)]).train()
    wrapper = build_optim_wrapper(model, optim_cfg())
    updates, update = [], wrapper.update
    wrapper.update = lambda **kwargs: updates.append(1) or update(**kwargs)
    logs = model.train_step(domains(torch.Generator().manual_seed(0)), wrapper)
    assert len(updates) == 3 and 'decode.loss_ce' in logs


def test_a_step_may_wait_for_a_term():
    cfg = dict(cfg_with('Everything'), steps=[dict(STEPS[0], when='everything'), STEPS[1]])
    model = build(cfg=cfg).train()
    wrapper = build_optim_wrapper(model, heads_apart())
    data = domains(torch.Generator().manual_seed(0))
    for ready in (True, False):
        model.terms['everything'].ready = ready
        logs = model.train_step(deepcopy(data), wrapper)
        assert any(key.startswith('a.') for key in logs) == ready


def test_a_step_that_waits_for_no_term_is_named():
    message = r"steps\.0\.when is 'mind': choose one of model.terms \(recon"
    with pytest.raises(InputError, match=message):
        build(steps=[dict(when='mind')])


def test_a_head_that_is_not_there_is_named():
    cfg = cfg_with('Everything')
    del cfg['auxiliary_head']
    with pytest.raises(InputError, match='model.terms.everything requires model.auxiliary_head'):
        build(cfg=cfg)


def test_parts_that_are_not_there_are_named():
    model = build(steps=[dict(parts=('heads', ))]).train()
    data = dict(source=batch(torch.Generator(), 36, 52, labelled=True))
    with pytest.raises(InputError, match=r'part heads: choose of .* \(segmentor, recon'):
        model.train_step(data, build_optim_wrapper(model, optim_cfg()))
    model = build(steps=[dict(), dict()]).train()
    wrapper = build_optim_wrapper(model, optim_cfg(accumulative_counts=2))
    with pytest.raises(InputError, match='accumulative_counts=1'):
        wrapper.initialize_count_status(model, 0, 4)
    with pytest.raises(InputError, match='optim_wrapper.heads.modules has auxiliary_head'):
        build_optim_wrapper(model, optim_cfg(heads=dict(
            modules=['auxiliary_head'], optimizer=dict(type='SGD', lr=1))))


def test_a_step_without_a_loss_is_named():
    cfg = dict(model_cfg(False, False, True), steps=[dict(), dict(name='C', passes=['target'])])
    model = build(cfg=cfg).train()
    with pytest.raises(InputError, match='step C of model.steps has no loss: remove it'):
        model.train_step(domains(torch.Generator().manual_seed(0)),
                         build_optim_wrapper(model, optim_cfg()))


def test_a_name_that_the_log_would_sum_is_refused():
    cfg = model_cfg()
    cfg['terms']['adv_loss'] = cfg['terms'].pop('adversary')
    with pytest.raises(InputError, match="model.terms.adv_loss has 'loss' in its name"):
        build(cfg=cfg)


def test_a_head_sees_a_batch_once_in_the_statistics():
    """However many views of the pass it runs in."""
    cfg = normed_cfg(False, False)
    cfg['auxiliary_head'] = deepcopy(cfg['decode_head'])
    cfg['terms'] = dict(discrepancy=dict(type='Discrepancy'), entropy=dict(type='MinEntropy'))
    model = build(cfg=cfg).train()
    run_pass(model, 'target', torch.randn(2, 3, 28, 44).double())
    assert model.decode_head.convs[0].bn.num_batches_tracked == 1


def test_pixel_weights_reach_the_supervised_loss():
    """Cross-entropy by hand; a sampler of the head's own multiplies them."""
    model = build()
    data = model.data_preprocessor(domains(torch.Generator().manual_seed(0), valid=True)['source'],
                                   True)
    weights = torch.rand(2, 36, 52).double()
    one = Pass('source', Batch(**data, weights=weights), Branches(1), {})
    logits = model.decode_head.forward(model.extract_feat(one.batch.inputs))
    up = torch.nn.functional.interpolate(logits, (36, 52), mode='bilinear', align_corners=True)
    by_pixel = torch.nn.functional.cross_entropy(up, one.batch.labels, reduction='none')
    for number in (1, 2):
        got = View(model, one).supervised_loss()['loss_ce']
        torch.testing.assert_close(got, (weights**number * by_pixel).mean())
        assert model.decode_head.sampler is None or number == 2
        model.decode_head.sampler = SimpleNamespace(sample=lambda logit, label: weights)
