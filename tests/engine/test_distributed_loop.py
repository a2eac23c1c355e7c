"""The loop on two real processes, from config to checkpoint, against one process."""
import os

import pytest
import torch
import torch.distributed as dist
from mmengine.registry import init_default_scope

from structseg_mmseg.engine.checkpoint import load_from_local
from tests.helpers.data import write_cityscapes, write_gta
from tests.helpers.runs import RANDOM, assert_equal_checkpoints, record, runner_cfg, spawn

RANKS = 2


def work(rank, folder, port, jobs):
    init_default_scope('mmseg')
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS),
                      MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    dist.init_process_group('gloo')
    torch.set_num_threads(1)
    for name, cfg in jobs.items():
        recorder = record(dict(cfg, launcher='pytorch', model_wrapper_cfg=dict(
            type='AdaptationDistributedDataParallel')))
        torch.save(vars(recorder), f'{folder}/{name}.{rank}.rec')
    dist.destroy_process_group()


PORT = 29600 + os.getpid() % 1000


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """What each run saw, rank by rank, and its last checkpoint."""
    folder = tmp_path_factory.mktemp('distributed')
    trees = write_gta(folder / 'gta', 7), write_cityscapes(folder / 'cs', 5)

    def cfg(name, iters, batch=1, **options):
        return runner_cfg(trees, folder / name, iters, source_batch=batch, target_batch=batch,
                          **RANDOM, **options)

    one = dict(one=cfg('one', 6, batch=2), stream=cfg('stream', 12), before=cfg('grown', 3))
    two = dict(
        two=cfg('two', 6),
        first=cfg('resumed', 3),
        second=cfg('resumed', 6, resume=True),
        grown=cfg('grown', 6, resume=True),
        differing=cfg('differing', 3, randomness=dict(seed=0, diff_rank_seed=True)),
        shrunk_before=cfg('shrunk', 3))
    after = dict(shrunk=cfg('shrunk', 6, resume=True))
    seen = {name: [vars(record(job))] for name, job in one.items()}
    spawn(work, args=(str(folder), PORT, two), nprocs=RANKS)
    for name in two:
        seen[name] = [torch.load(folder / f'{name}.{rank}.rec') for rank in range(RANKS)]
    seen.update({name: [vars(record(job))] for name, job in after.items()})
    return folder, seen


def together(recorders, domain, what='pixels'):
    """What all ranks saw in each iteration."""
    return [sorted(sum(batches, []))
            for batches in zip(*(recorder[what][domain] for recorder in recorders))]


@pytest.mark.parametrize('domain', ['source', 'target'])
def test_ranks_share_what_one_would_see(runs, domain):
    """Files without overlap, and the same random transforms."""
    _, seen = runs
    for what in ('seen', 'pixels'):
        assert together(seen['two'], domain, what) == together(seen['one'], domain, what)
    files = sum(together(seen['two'], domain, 'seen'), [])
    epoch = dict(source=7, target=5)[domain]
    assert len(set(files[:epoch - 1])) == epoch - 1
    assert together(seen['differing'], domain, 'seen') == together(seen['two'], domain, 'seen')[:3]


def test_ranks_stay_identical(runs):
    _, seen = runs
    for name in ('two', 'second', 'grown'):
        one, other = (recorder['weights'][-1] for recorder in seen[name])
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_resume_on_ranks_is_exact(runs):
    folder, seen = runs
    straight, resumed = (load_from_local(str(folder / name / 'iter_6.pth'))
                         for name in ('two', 'resumed'))
    assert_equal_checkpoints(resumed, straight)
    for rank in range(RANKS):
        for domain in ('source', 'target'):
            parts = [seen[name][rank]['pixels'][domain] for name in ('first', 'second')]
            assert parts[0] + parts[1] == seen['two'][rank]['pixels'][domain]


@pytest.mark.parametrize('name,before,after', [
    ('grown', (1, dict(source=1, target=1)), (2, dict(source=2, target=2))),
    ('shrunk', (2, dict(source=2, target=2)), (1, dict(source=1, target=1)))])
def test_another_number_of_ranks_goes_on_behind_the_last_sample(runs, name, before, after):
    """And says so; the checkpoint loads in full."""
    folder, seen = runs
    first = seen['before' if name == 'grown' else 'shrunk_before']
    for domain in ('source', 'target'):
        both = sum(together(first, domain) + together(seen[name], domain), [])
        stream = sum(together(seen['stream'], domain), [])
        assert len(both) == 9 and sorted(both) == sorted(stream[:9])
    logs = ''.join(path.read_text() for path in (folder / name).glob('*/*.log'))
    for ranks, samples in (before, after):
        assert f'{ranks} rank' in logs and str(samples) in logs
    assert load_from_local(str(folder / name / 'iter_6.pth'))['meta']['iter'] == 6
