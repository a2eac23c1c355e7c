"""An ablation of three configs, one of them broken, that is killed and then finished."""
import base64
import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch

from structseg_mmseg.demo.street_worlds import draw_worlds
from structseg_mmseg.engine.checkpoint import load_from_local
from tests.helpers import ROOT
from tests.helpers.tools import call, fails, load
from tests.helpers.warm import python

CONFIGS = {
    'source-only': """
_base_ = '{folder}/segformer_effnet-lite0_demo_source-only.py'
val_dataloader = dict(dataset=dict(indices=1))
""",
    'full_oracle': """
_base_ = '{folder}/segformer_effnet-lite0_demo.py'
model = dict(backbone=dict(norm_eval=False))
val_dataloader = dict(dataset=dict(indices=1))
statistics_dataloader = {{{{_base_.test_dataloader}}}}
custom_hooks = [dict(type='InputCheckHook'), dict(type='EMAHook', momentum=0.5)]
""",
    'broken': """
_base_ = '{folder}/segformer_effnet-lite0_demo.py'
model = dict(decode_head=dict(num_classes=9))
""",
}
OPTIONS = ('train_cfg.max_iters=4', 'train_cfg.val_interval=2', 'default_hooks.logger.interval=1',
           'default_hooks.checkpoint.interval=1')
JOBS = 2
GOOD = ('source-only', 'full_oracle')
PICTURES = ('curves', 'bars', 'examples', 'changed')


def start(root, tool, *args, python=lambda: sys.executable):
    """On devices that no machine of ours has, so that all runs are on the CPU."""
    environment = dict(
        os.environ, PYTHONWARNINGS='ignore', DEMO=str(root / 'demo'), CUDA_VISIBLE_DEVICES='93,95',
        OMP_NUM_THREADS=str(threads()))
    return subprocess.Popen(
        [python(), str(ROOT / 'tools' / tool), *map(str, args)], cwd=ROOT, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(root, tool, *args, check=True):
    process = start(root, tool, *args, python=python)
    done = subprocess.CompletedProcess(args, None, *process.communicate())
    done.returncode = process.returncode
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def threads():
    return max(1, len(os.sched_getaffinity(0)) // JOBS)


def ablation(root, *names):
    return ('ablation.py', *(root / f'{name}.py' for name in names), '--seeds', 0, 1, '--work-dir',
            root / 'out', '--jobs', JOBS, '--cfg-options', *OPTIONS)


def alive(word):
    """Processes whose command line holds a word."""
    pids = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            pids += [path.parent.name] if word in path.read_text() else []
        except OSError:  # it ended meanwhile
            pass
    return pids


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    """A workplace where the tool was killed while runs were at their first iterations."""
    root = tmp_path_factory.mktemp('ablation')
    list(draw_worlds(root / 'demo', source=2, target=2, val=2))
    for name, text in CONFIGS.items():
        (root / f'{name}.py').write_text(text.format(folder=ROOT / 'configs/structseg'))
    process = start(root, *ablation(root, *CONFIGS))
    wait_until(lambda: list(root.glob('out/*/seed_0/iter_1.pth')), 300)
    children = [pid for path in Path(f'/proc/{process.pid}/task').glob('*/children')
                for pid in path.read_text().split()]
    environments = [Path(f'/proc/{pid}/environ').read_text().split('\0') for pid in children]
    process.kill()
    process.communicate()
    wait_until(lambda: not alive(str(root)), 20)  # torch's workers notice it after 5 s
    survivors = alive(str(root))
    interrupted = {path.parent for path in root.glob('out/*/*/iter_*.pth')}
    assert interrupted and not list(root.glob('out/*/*/iter_4.pth'))  # none went on alone
    return SimpleNamespace(root=root, environments=environments, survivors=survivors,
                           interrupted=interrupted)


@pytest.fixture(scope='module')
def finished(killed):
    """The same, after the same command; ``output`` is what it said."""
    killed.output = run(killed.root, *ablation(killed.root, *CONFIGS), check=False)
    return killed


def test_nothing_survives_a_kill(killed):
    assert not killed.survivors
    assert len(killed.environments) == JOBS
    for device in ('93', '95'):
        assert sum(f'CUDA_VISIBLE_DEVICES={device}' in one for one in killed.environments) == 1
    assert all(f'OMP_NUM_THREADS={threads()}' in one for one in killed.environments)


def test_a_killed_ablation_goes_on_as_if_never_stopped(finished):
    for folder in sorted(finished.interrupted)[:1]:
        assert len(list(folder.glob('2*/vis_data'))) == 2  # it did resume
        name = folder.parent.name
        run(finished.root, 'train.py', finished.root / f'{name}.py', '--work-dir',
            finished.root / name, '--cfg-options', *OPTIONS, 'randomness.seed=0')
        straight, resumed = (load_from_local(str(path / 'iter_4.pth'))['state_dict']
                             for path in (finished.root / name, folder))
        assert straight.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_a_failing_config_stops_no_other(finished):
    output = finished.output
    assert output.returncode == 1 and 'Traceback' not in output.stderr
    failures = output.stderr.strip().splitlines()[-2:]
    for seed, failure in enumerate(failures):
        assert failure.startswith(f'{finished.root}/out/broken/seed_{seed}/train.log: error: ')
        assert 'data has 8 classes where decode_head has 9' in failure
    assert len(list(finished.root.glob('out/*/*/results.json'))) == 4
    assert re.search(r'\d+/24 iterations, \d/6 runs', output.stdout)
    for name in PICTURES:
        assert cv2.imread(str(finished.root / f'out/{name}.png')).std() > 0
    for name in ('examples', 'changed'):
        assert 'source-only/seed_0, full_oracle/seed_0\n  demo_' in (
            finished.root / f'out/{name}.log').read_text()


def results(root, name):
    return [json.loads((root / f'out/{name}/seed_{seed}/results.json').read_text())
            for seed in (0, 1)]


def test_the_tables_are_the_results(finished):
    root = finished.root
    with open(root / 'out/table.csv') as file:
        rows = {(row['config'], row['variant'], row['seed']): row for row in csv.DictReader(file)}
    variants = ['last', 'last + target statistics', 'averaged', 'averaged + target statistics']
    groups = [('source-only', 'last'), *(('full_oracle', variant) for variant in variants)]
    assert set(rows) == {(*group, seed) for group in groups for seed in ('0', '1', 'mean', 'std')}
    for name, variant in groups:
        for split in ('dev', 'test'):
            for metric in ('mIoU', 'agreement', 'IoU.road', 'IoU.traffic sign'):
                a, b = (result[variant][split][metric] for result in results(root, name))
                cells = [float(rows[name, variant, seed][f'{split} {metric}'])
                         for seed in ('0', '1', 'mean', 'std')]
                assert cells == pytest.approx([a, b, (a + b) / 2, abs(a - b) / 2 ** 0.5], abs=1e-4)

    lines = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in (root / 'out/table.md').read_text().splitlines()]
    assert [(row[0], row[1]) for row in lines[2:]] == groups
    table = {tuple(row[:2]): dict(zip(lines[0], row)) for row in lines[2:]}
    low, high = ([result['last']['test']['mIoU'] for result in results(root, name)]
                 for name in GOOD)
    gain = statistics.mean(high) - statistics.mean(low)
    row = table['full_oracle', 'last']
    assert row['seeds'] == '2'
    assert row['test mIoU'] == f'{statistics.mean(high):.1f} ± {statistics.stdev(high):.1f}'
    assert row['gain'] == f'{gain:+.1f}' and row['of the gap'] == '100%'
    assert table['source-only', 'last']['of the gap'] == '0%'
    assert table['full_oracle', 'averaged']['gain'] == ''  # the first config has no average
    roads = [result['last']['test']['IoU.road'] for result in results(root, 'full_oracle')]
    assert row['road'] == f'{statistics.mean(roads):.1f}'


def test_the_page_is_complete_and_needs_no_other_file(finished):
    out = finished.root / 'out'
    page = (out / 'report.html').read_text(encoding='utf-8')
    assert re.findall('(?:src|href)="([^,"]*)', page) == ['data:image/png;base64'] * len(PICTURES)
    for name in PICTURES:
        assert base64.b64encode((out / f'{name}.png').read_bytes()).decode() in page
    assert '--seeds 0 1 --work-dir' in page
    cells = re.findall('<td>(.*?)</td>', page)
    assert cells == [cell.strip() for line in (out / 'table.md').read_text().splitlines()
                     if '---' not in line for cell in line.strip('|').split('|')]


def test_what_a_resumed_run_repeats_counts_once(tmp_path):
    logs = {'1': [dict(loss=1, time=1, step=50), dict(loss=1, time=2, step=100),
                  dict(mIoU=30, time=9, step=100), dict(loss=1, time=9, step=150),
                  dict(mIoU=50, time=9, step=150)],
            '2': [dict(loss=1, time=3, step=150), dict(mIoU=40, time=9, step=150),
                  dict(loss=1, time=4, step=200)]}
    for name, records in logs.items():
        path = tmp_path / name / 'vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(f'{json.dumps(record)}\n' for record in records)
                        + '{"loss": 1, "ti')  # cut off
    one = load('ablation.py').Run(config=Path('a.py'), seed=0, folder=tmp_path, max_iters=220)
    assert one.iterations == 200
    assert one.minutes == pytest.approx((1 + 2 + 3 + 4) / 4 * 220 / 60)
    assert {step: record['mIoU'] for step, record in one.logged('mIoU').items()} == {
        100: 30, 150: 40}


def test_variants_are_what_the_tools_test(finished, tmp_path, monkeypatch):
    """``averaged`` is what tools/test.py makes of the checkpoint, ``last`` of its raw weights."""
    root, config = finished.root, finished.root / 'full_oracle.py'
    path = root / 'out/full_oracle/seed_0/iter_4.pth'
    checkpoint = load_from_local(str(path))
    checkpoint['state_dict'] = {key.removeprefix('module.'): value for key, value in
                                checkpoint.pop('ema_state_dict').items() if key != 'steps'}
    torch.save(checkpoint, tmp_path / 'last.pth')
    monkeypatch.setenv('DEMO', str(root / 'demo'))
    call('model_converters/estimate_statistics.py', config, tmp_path / 'last.pth',
         tmp_path / 'target.pth')
    assert set(load_from_local(str(tmp_path / 'target.pth'))) == {'meta', 'state_dict'}
    expected = results(root, 'full_oracle')[0]
    assert len({variant['test']['aAcc'] for variant in expected.values()}) == 4
    for variant, weights in (('averaged', path),
                             ('last + target statistics', tmp_path / 'target.pth')):
        work_dir = tmp_path / variant
        call('test.py', config, weights, '--work-dir', work_dir)
        tested = json.loads(next(work_dir.glob('*/*.json')).read_text())
        scores = expected[variant]['test']
        label_free = {'certainty', 'information', 'neighbourhood_density', 'agreement',
                      'agreement_mIoU'}
        assert scores.keys() - tested.keys() == label_free
        assert {key: tested[key] for key in scores.keys() - label_free} == pytest.approx(
            {key: scores[key] for key in scores.keys() - label_free}, abs=0.005)


def test_what_is_finished_is_kept(finished):
    root = finished.root
    files = [*root.glob('out/*/*/iter_4.pth'), *root.glob('out/*/*/results.json')]
    times = [path.stat().st_mtime_ns for path in files]
    output = call(*ablation(root, *GOOD))
    assert [path.stat().st_mtime_ns for path in files] == times and len(files) == 8
    assert (root / 'out/table.md').read_text() in output.stdout


def test_names_must_differ(tmp_path):
    fails(call('ablation.py', 'a/one.py', 'b/one.py', '--seeds', 0, '--work-dir', tmp_path,
               check=False), 'one.py is the name of several configs', 'rename')


def test_an_interrupt_ends_the_children(killed, tmp_path):
    """Also where the signal reaches the tool alone."""
    process = start(killed.root, 'ablation.py', killed.root / 'source-only.py', '--seeds', 0,
                    '--work-dir', tmp_path)
    children = Path(f'/proc/{process.pid}/task')
    wait_until(lambda: any(path.read_text() for path in children.glob('*/children')), 60)
    process.send_signal(signal.SIGINT)
    assert 'the same command resumes' in process.communicate(timeout=20)[1]
    assert process.returncode == 130
    wait_until(lambda: not alive(str(tmp_path)), 20)
    assert not alive(str(tmp_path))
