"""Ranks are real processes, which exchange gradients over gloo."""
from copy import deepcopy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.wrappers import AdaptationDistributedDataParallel
from tests.helpers.models import ABLATIONS, build, domains, model_cfg, optim_cfg
from tests.helpers.runs import process_group, spawn

BATCH = 2  # of a rank
ITERATIONS = 5
CASES = {
    **{name: dict(parts=parts) for name, parts in ABLATIONS.items()},
    'accumulated and clipped': dict(parts=(True, True), micro_batches=2, clip_grad=dict(
        max_norm=0.1)),
    'activations recomputed': dict(parts=(True, True), backbone=dict(
        type='DeepLabResNet', with_cp=True)),
    'compiled': dict(parts=(True, True), compiled=True),
    'channels last, fused': dict(parts=(True, True), quick=True),
    'a loss of one rank is infinite': dict(parts=(True, True), bad_iteration=2),
}
RUNS = [(2, name) for name in CASES] + [(3, name) for name in ABLATIONS]


def build_case(case):
    terms = dict(zip(('reconstruction', 'adversary', 'statistics'), case['parts']))
    # Batch statistics are each rank's own.
    backbone = dict(model_cfg()['backbone'], norm_eval=True, **case.get('backbone', {}))
    return build(**terms, backbone=backbone,
                 nonfinite_loss='skip', channels_last=case.get('quick', False)).train()


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU has it')
def test_sync_bn_without_a_gpu_is_refused():
    with pytest.raises(InputError, match='cannot share .* set sync_bn=None'):
        AdaptationDistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(build()))


def train(case, model, ranks, rank=None):
    """As one of the ranks, in micro-batches; or, without a rank, in batches of all that they see.

    What the case does to save time or memory is done by the ranks alone.
    """
    k = case.get('micro_batches', 1)
    wrapper = build_optim_wrapper(model, optim_cfg(
        rank is not None and case.get('quick', False),
        accumulative_counts=1 if rank is None else k, clip_grad=case.get('clip_grad')))
    if rank is not None and case.get('compiled'):
        model.train_step = torch.compile(model.train_step, backend='aot_eager')
    generator = torch.Generator().manual_seed(1)
    for iteration in range(ITERATIONS):
        # The mean over valid pixels is each rank's own, too.
        data = domains(generator, ranks * BATCH * k, valid=True)
        bad = iteration == case.get('bad_iteration')
        if bad and rank is None:
            continue  # what skipping it comes to
        if rank == 1 and case['parts'][1]:
            model.module.terms['adversary'].loss_weight = float('inf') if bad else 0.3
        shares = [slice(None)]
        if rank is not None:
            starts = [(micro * ranks + rank) * BATCH for micro in range(k)]
            shares = [slice(start, start + BATCH) for start in starts]
        for share in shares:
            model.train_step({domain: {key: value[share] for key, value in part.items()}
                              for domain, part in data.items()}, wrapper)


def work(rank, ranks, names, folder):
    with process_group(rank, ranks, folder):
        for name in names:
            model = AdaptationDistributedDataParallel(build_case(CASES[name]))
            train(CASES[name], model, ranks, rank)
            torch.save(model.module.state_dict(), f'{folder}/{name}.{rank}.pth')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Where the weights are that so many ranks trained."""
    folders = {}
    for ranks in (2, 3):
        folders[ranks] = tmp_path_factory.mktemp('ranks')
        names = [name for ranks_of_run, name in RUNS if ranks_of_run == ranks]
        spawn(work, args=(ranks, names, str(folders[ranks])), nprocs=ranks)
    return folders


@pytest.mark.parametrize('ranks,name', RUNS)
def test_ranks_equal_one_that_sees_all(folders, ranks, name):
    """To 1e-10 after 5 iterations in float64; the ranks are identical to the bit."""
    first, *others = (torch.load(folders[ranks] / f'{name}.{rank}.pth') for rank in range(ranks))
    model = build_case(CASES[name])
    start = deepcopy(model.state_dict())
    train(CASES[name], model, ranks)
    for key, value in model.named_parameters():
        assert not torch.equal(value, start[key]), key
        assert all(torch.equal(first[key], other[key]) for other in others), key
        torch.testing.assert_close(first[key], value.detach(), rtol=0, atol=1e-10, msg=key)
    model.load_state_dict(first, strict=True)
