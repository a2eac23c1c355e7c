"""What several files of tests share."""
from pathlib import Path

import torch

import structseg_mmseg  # noqa: F401  registers its modules
from structseg_mmseg.engine.checkpoint import load_safely

ROOT = Path(__file__).resolve().parents[2]

# Here and not in conftest.py, which processes started by tests do not import.
torch.set_flush_denormal(True)
load_safely()
