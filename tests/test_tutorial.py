"""docs/tutorial.ipynb runs from its first cell to its last, shortened."""
import json
import os
import subprocess

from tests.helpers import ROOT
from tests.helpers.warm import python


def test_the_notebook_runs(tmp_path):
    cells = json.loads((ROOT / 'docs/tutorial.ipynb').read_text())['cells']
    assert not any(cell.get('outputs') for cell in cells)  # those are of whoever ran it
    script = '\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    done = subprocess.run(
        [python(), '-c', script], cwd=tmp_path, capture_output=True, text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1', MPLBACKEND='agg', ITERS='2', IMAGES='2',
                 DEMO=str(tmp_path / 'demo')))
    assert done.returncode == 0, done.stderr[-4000:]
    assert len([line for line in done.stdout.splitlines() if 'IoU.' in line]) >= 8
