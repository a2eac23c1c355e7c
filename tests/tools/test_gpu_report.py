"""The report on a CPU, at a hundredth of the size, of what does not need a GPU."""
import json

from tests.helpers import ROOT
from tests.helpers.tools import CONFIG, call, fails, load, run

TINY = ['--source', '65x33', '--target', '33x65', '--repeats', 1]


def test_a_report_goes_on_where_it_was(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f'_base_ = {str(ROOT / CONFIG)!r}\nmodel = dict(no_such_key=1)\n')
    out = tmp_path / 'out'
    done = run('gpu_report.py', '--out', out, '--config', config, *TINY, '--stages', 'environment',
               'float32', check=False)
    assert done.returncode == 1 and 'not done: float32' in done.stderr
    page = (out / 'report.md').read_text()
    assert '## float32: exit status 1\n```\n' in page and 'no_such_key' in page
    assert '| bf16 | not run |' in page and '| stack | structseg_mmseg ' in page
    done = run('gpu_report.py', '--out', out, '--config', CONFIG, *TINY, '--stages', 'environment',
               'float32')
    assert [line.split(' in ')[0] for line in done.stdout.splitlines() if ': ' in line] == [
        'float32: done']
    records = [json.loads(line) for line in (out / 'results.jsonl').read_text().splitlines()]
    assert [record['stage'] for record in records] == ['environment', 'float32']
    page = (out / 'report.md').read_text()
    assert 'segformer_effnet-lite0_demo' in page.splitlines()[0]
    row = next(line for line in page.splitlines() if line.startswith('| float32 | cpu |'))
    assert row.split(' | ')[2] == f'{1 / records[1]["seconds"]:.2f}'


def test_a_stage_that_takes_too_long_is_stopped(tmp_path):
    gpu_report = load('gpu_report.py')
    assert sum(gpu_report.LIMITS.values()) < 9 * 60
    command = ['-c', 'import subprocess; subprocess.run(["sleep", "100"])']
    assert gpu_report.execute(command, tmp_path / 'log', 1) == 'stopped after 1 s'


def test_a_missing_config(tmp_path):
    fails(call('gpu_report.py', '--out', tmp_path, '--config', 'none.py', check=False),
          'there is no none.py')
