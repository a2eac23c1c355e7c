"""The wheel, the command that runs its tools, and what describes the package to other programs."""
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from mmengine.fileio import load

from structseg_mmseg.demo.street_worlds import draw_worlds
from structseg_mmseg.version import __version__
from tests.helpers import ROOT

CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('configs/[!_]*/*.py'))


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Built from a copy, as setuptools leaves folders behind and takes up what it finds in them."""
    pytest.importorskip('setuptools', '70.1', reason='older ones build no wheel by themselves')
    root = tmp_path_factory.mktemp('wheel')
    for name in ('configs', 'structseg_mmseg', 'tools'):
        shutil.copytree(ROOT / name, root / 'checkout' / name, symlinks=True)
    for name in ('README.md', 'model-index.yml', 'pyproject.toml', 'setup.cfg'):
        shutil.copy(ROOT / name, root / 'checkout')
    pip('wheel', '--no-build-isolation', '-w', root, root / 'checkout')
    return next(root.glob('*.whl'))


def pip(*args):
    subprocess.run([sys.executable, '-m', 'pip', args[0], '-q', '--no-deps', '--no-index',
                    *map(str, args[1:])], check=True)


def test_a_wheel_carries_tools_and_configs(wheel):
    inside = set(ZipFile(wheel).namelist())
    for pattern in ('configs/**/*.py', 'configs/**/*.txt', 'configs/*/metafile.yml',
                    'tools/**/*.py', 'tools/*.sh', 'model-index.yml'):
        expected = {f'structseg_mmseg/.mim/{p.relative_to(ROOT)}' for p in ROOT.glob(pattern)}
        assert expected and expected <= inside
    assert not [name for name in inside if not name.startswith('structseg_mmseg')]


def test_a_wheel_trains_in_an_empty_folder(wheel, tmp_path):
    pip('install', '--no-compile', '--target', tmp_path / 'site', wheel)
    workplace = tmp_path / 'workplace'
    list(draw_worlds(workplace / 'data/demo', source=2, target=2, val=1))
    environment = dict(os.environ, PYTHONPATH=str(tmp_path / 'site'), OMP_NUM_THREADS='1',
                       PYTHONWARNINGS='ignore', PYTHONDONTWRITEBYTECODE='')
    environment.pop('DEMO', None)
    done = subprocess.run(
        [sys.executable, '-m', 'structseg_mmseg', 'train', 'segformer_effnet-lite0_demo',
         '--cfg-options', 'train_cfg.max_iters=2'],
        cwd=workplace, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (workplace / 'work_dirs/segformer_effnet-lite0_demo/iter_2.pth').is_file()
    # It was the wheel's: its modules are compiled now.
    assert list((tmp_path / 'site/structseg_mmseg/engine/hooks/__pycache__').iterdir())


@pytest.fixture
def run(monkeypatch, capsys):
    """``python -m structseg_mmseg`` of the checkout, in this process: output or last sentence."""
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['-m', *map(str, args)])
        monkeypatch.setattr(sys, 'path', list(sys.path))
        try:
            runpy.run_module('structseg_mmseg', run_name='__main__', alter_sys=True)
        except SystemExit as end:
            if end.code:
                return end.code
        return capsys.readouterr().out

    return run


def test_it_lists_tools_and_configs(run):
    listed = dict(line.split(maxsplit=1) for line in run().split('tools:\n')[1].splitlines())
    assert sorted(listed) == sorted(path.stem for path in ROOT.glob('tools/**/*.py'))
    assert listed['draw_demo'].startswith('Draw the demo data')
    names = run('--configs').splitlines()
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(Path(config).stem for config in CONFIGS)


def test_a_nested_tool(run, tmp_path):
    run('draw_demo', tmp_path / 'demo', '--source', 1, '--target', 1, '--val', 1)
    assert len(list(tmp_path.glob('demo/*/images/*.png'))) == 1
    assert 'usage: compare.py' in run('compare', '--help')


def test_unknown_tools_and_configs(run, capsys):
    assert run('infr') == 2
    assert "invalid choice: 'infr' (choose from " in capsys.readouterr().err
    assert 'nothing.py' in run('train', 'nothing.py')
    assert 'there is no checkpoint none.pth' in run(
        'infer', 'segformer_effnet-lite0_demo', 'none.pth', ROOT / 'docs/demo.jpg')


def test_metafiles_describe_every_config():
    files = load(ROOT / 'model-index.yml')['Import']
    assert sorted(ROOT / file for file in files) == sorted(ROOT.glob('configs/*/metafile.yml'))
    pages = ''.join((ROOT / page).read_text() for page in ('README.md', 'docs/results.md'))
    found = []
    for file in files:
        metafile = load(ROOT / file)
        collections = {collection['Name'] for collection in metafile['Collections']}
        for model in metafile['Models']:
            assert model['In Collection'] in collections
            assert model['Name'] == Path(model['Config']).stem
            found.append(model['Config'])
            for result in model.get('Results', []):
                assert re.search(rf'\b{result["Metrics"]["mIoU"]}\b', pages), model['Name']
    assert sorted(found) == CONFIGS


def test_citation_names_the_version():
    assert load(ROOT / 'CITATION.cff', file_format='yaml')['version'] == __version__
