"""The report as a user asks for it, on a CPU, at tiny sizes."""
import json
from argparse import Namespace

from tests.conftest import ROOT
from tests.tools.test_tools import CONFIG, fails, run

TINY = ['--source', '65x33', '--target', '33x65']


def report(folder, *args, config=CONFIG):
    return run('gpu_report.py', '--out', folder, '--config', config, *TINY, *args, check=False)


def test_stages_run_once(tmp_path):
    stages = ['--stages', 'environment', 'step_bf16', 'ablation']
    done = report(tmp_path, *stages)
    assert done.returncode == 0, done.stderr
    assert [line.split(':')[0] for line in done.stdout.splitlines() if ' done: ' in line] == [
        'environment done', 'step_bf16 done']
    page = (tmp_path / 'report.md').read_text()
    assert 'segformerhead_lite0_demo' in page.splitlines()[0]
    for line in ('| environment | done |', '| step_fp16 | not run |',
                 '| ablation | not asked for |', '| bf16 | '):
        assert line in page
    figures = json.loads((tmp_path / 'step_bf16.json').read_text())
    assert figures['seconds'] > 0 and figures['sequential_ratio'] > 0
    again = report(tmp_path, *stages)
    assert again.returncode == 0 and ' done: ' not in again.stdout
    assert (tmp_path / 'report.md').read_text() == page


def test_a_failing_stage_does_not_stop_the_others(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f'_base_ = {str(ROOT / CONFIG)!r}\n'
                      "model = dict(nonfinite_loss='none')\n")
    done = report(tmp_path / 'out', '--stages', 'step_bf16', 'environment', config=config)
    assert done.returncode == 1
    assert 'step_bf16 failed' in done.stdout and 'environment done' in done.stdout
    page = (tmp_path / 'out/report.md').read_text()
    assert "model.nonfinite_loss is 'none': choose" in page and '| step_bf16 | failed |' in page
    assert not (tmp_path / 'out/step_bf16.json').exists()


def test_the_budget_is_kept(tmp_path):
    done = report(tmp_path, '--stages', 'environment', 'step_bf16', '--minutes', '0.01')
    assert done.returncode == 0 and 'environment stopped' in done.stdout
    page = (tmp_path / 'report.md').read_text()
    assert '| step_bf16 | not run |' in page and not (tmp_path / 'environment.json').exists()


def test_a_missing_config(tmp_path):
    fails(report(tmp_path, config=tmp_path / 'none.py'), 'none.py is no file')


def test_curves_of_losses(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import gpu_report
    monkeypatch.setattr(gpu_report, 'ITERATIONS', 12)
    monkeypatch.setattr(gpu_report, 'CURVES', {
        'float32': 'float32', 'float32 again': 'float32', 'bf16': 'bf16'})
    result = gpu_report.losses(Namespace(
        config=ROOT / CONFIG, source=(130, 66), target=(66, 130), out=tmp_path))
    assert (tmp_path / 'losses.png').stat().st_size > 0
    assert set(result['curves']['bf16']) == {
        'loss', 'decode.loss_ce', 'decode.loss_lovasz', 'adversary.loss_discriminator',
        'adversary.loss_target', 'reconstruction.loss_source', 'reconstruction.loss_target'}
    differences = {name: row['loss'] for name, row in result['differences'].items()}
    assert differences['float32']['max'] == 0 and differences['float32 again']['max'] < 0.01
    assert 0 < differences['bf16']['mean'] < differences['bf16']['max'] < 0.1
