"""Test: mmseg's own tools/test.py, with one sentence for a mistake in the input.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--show-dir DIR] [--out DIR]

prints mIoU and the table of classes; ``--work-dir`` gets them as JSON, ``--show-dir`` pictures.
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
