"""Test by mmseg's own tools/test.py; a mistake in the input ends in one sentence.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--show-dir DIR] [--out DIR]

It prints mIoU and IoU by class, writes them as JSON to ``--work-dir``, and pictures to
``--show-dir``.
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
    runpy.run_path(str(Path(mmseg.__file__).parent / '.mim/tools/test.py'), run_name='__main__')
