"""Tools as a user runs them, and the sentence in which they fail."""
import importlib.util
import io
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from structseg_mmseg.errors import one_sentence_errors
from tests.helpers import ROOT
from tests.helpers.warm import python

CONFIG = 'configs/structseg/segformer_effnet-lite0_demo.py'
SOURCE_ONLY = 'configs/structseg/segformer_effnet-lite0_demo_source-only.py'


def run(tool, *args, data=None, check=True, python=python, **environment):
    """In a process, forked unless another Python is named."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', **environment)
    if data is not None:
        environment['DEMO'] = str(data / 'demo')
    done = subprocess.run(
        [python(), str(ROOT / 'tools' / tool), *map(str, args)], cwd=ROOT, env=environment,
        capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def call(tool, *args, data=None, check=True):
    """As ``run``, but in this process, which saves the imports: not for what trains."""
    out, err, code = io.StringIO(), io.StringIO(), None
    environment = {} if data is None else dict(DEMO=str(data / 'demo'))
    with patch.object(sys, 'argv', [tool, *map(str, args)]), patch.dict(
            os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        except SystemExit as stop:
            code = stop.code
    done = subprocess.CompletedProcess(args, int(bool(code)), out.getvalue(),
                                       f'{err.getvalue()}\n{code}')
    if check:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def load(tool):
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(Path(tool).stem, ROOT / 'tools' / tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fails(done, *words):
    """It failed, by one sentence that holds the words, and no traceback."""
    assert done.returncode != 0, done.stdout[-2000:]
    assert 'Traceback' not in done.stderr, done.stderr[-4000:]
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith('error: '), done.stderr[-2000:]
    for word in words:
        assert re.search(word, sentence), sentence


def sentence(raiser) -> str:
    with pytest.raises(SystemExit) as stop, one_sentence_errors():
        raiser()
    assert stop.value.code.startswith('error: ') and '\n' not in stop.value.code
    return stop.value.code.removeprefix('error: ')
