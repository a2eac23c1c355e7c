"""The report on a CPU, at a hundredth of the size, so that no minute of a GPU is lost to a slip."""
import json
import os

import torch

from tests.helpers import ROOT
from tests.helpers.tools import CONFIG, call, fails, load, run

BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
TINY = ['--source', '65x33', '--target', '33x65', '--repeats', 1, '--iterations', 4]


def test_a_report_goes_on_where_it_was(tmp_path):
    """With mixed precision as a CPU has it in the place of a GPU's."""
    (tmp_path / 'cpu_amp.py').write_text(
        'from mmseg.registry import OPTIM_WRAPPERS\n'
        'from tests.helpers.amp import CPUAmpOptimWrapper\n'
        "OPTIM_WRAPPERS.register_module('AmpOptimWrapper', module=CPUAmpOptimWrapper)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get('PYTHONPATH', '')])
    call('dataset_converters/draw_demo.py', tmp_path / 'demo', '--source', 2, '--target', 2,
         '--val', 2)
    broken, config = tmp_path / 'broken.py', tmp_path / 'config.py'
    config.write_text(f'_base_ = {str(ROOT / CONFIG)!r}\n'
                      "custom_imports = dict(imports=['structseg_mmseg', 'cpu_amp'])\n")
    broken.write_text("_base_ = 'config.py'\nmodel = dict(no_such_key=1)\n")
    out = tmp_path / 'out'

    def report(config, *args, **kwargs):
        return run('gpu_report.py', '--out', out, '--config', config, '--real', config, *TINY,
                   *args, data=tmp_path, PYTHONPATH=path, **kwargs)

    done = report(broken, '--stages', 'environment', 'float32', check=False)
    assert done.returncode == 1 and 'not done: float32' in done.stderr
    page = (out / 'report.md').read_text()
    assert '## float32: exit status 1\n```\n' in page and 'no_such_key' in page
    assert '| bf16 | not run |' in page and '| stack | structseg_mmseg ' in page
    # Not what a CPU needs minutes for: compilation, half precision, bf16 that it has to emulate.
    stages = [stage for stage in
              ('peaks', 'bf16+channels_last', 'float32', 'real bf16', 'real float32')
              if BF16 or 'bf16' not in stage]
    done = report(config, '--stages', 'environment', *stages)
    assert [line.split(' in ')[0] for line in done.stdout.splitlines() if ': ' in line] == [
        f'{stage}: done' for stage in stages]
    records = {record['stage']: record for record in map(
        json.loads, (out / 'results.jsonl').read_text().splitlines())}
    assert list(records) == ['environment', *stages]
    page = (out / 'report.md').read_text()
    for stage in ('bf16+channels_last', 'float32')[not BF16:]:
        row = next(line for line in page.splitlines() if line.startswith(f'| {stage} | cpu |'))
        assert row.split(' | ')[2] == f'{1 / records[stage]["seconds"]:.2f}'
        assert row.split(' | ')[3] == (
            f'{records["float32"]["seconds"] / records[stage]["seconds"]:.2f}')
    assert 0 < records['real float32']['loss'] < 100
    if BF16:
        losses = [records[f'real {precision}']['loss'] for precision in ('bf16', 'float32')]
        assert losses[0] != losses[1] and abs(losses[0] / losses[1] - 1) < 0.01


def test_a_stage_that_takes_too_long_is_stopped(tmp_path):
    gpu_report = load('gpu_report.py')
    assert set(gpu_report.ORDER) == set(gpu_report.LIMITS)
    assert sum(gpu_report.LIMITS.values()) < 9 * 60
    command = ['-c', 'import subprocess; subprocess.run(["sleep", "100"])']
    assert gpu_report.execute(command, tmp_path / 'log', 1) == 'stopped after 1 s'


def test_a_missing_config(tmp_path):
    fails(call('gpu_report.py', '--out', tmp_path, '--config', 'none.py', check=False),
          'there is no none.py')
