"""Train by mmseg's own tools/train.py; a mistake in the input ends in one sentence.

    python tools/train.py CONFIG [--work-dir DIR] [--resume] [--amp] [--cfg-options KEY=VALUE ...]
"""
import runpy
from pathlib import Path

import mmseg

from structseg_mmseg.engine.checkpoint import load_safely
from structseg_mmseg.engine.distributed import join_cpu_group
from structseg_mmseg.errors import one_sentence_errors

with one_sentence_errors():
    load_safely()
    join_cpu_group()
    runpy.run_path(str(Path(mmseg.__file__).parent / '.mim/tools/train.py'), run_name='__main__')
