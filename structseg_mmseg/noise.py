"""What the libraries below say at each import, of parts that nothing here uses."""
import io
import warnings
from contextlib import contextmanager, redirect_stdout
from typing import Iterator

LINES = ('Could not import OneDL', )  # printed
WARNINGS = ('Fail to import ``MultiScaleDeformableAttention``', )  # mmcv without its operators


@contextmanager
def without_known_noise() -> Iterator[None]:
    """Import mmseg without these lines and warnings; all others are shown."""
    said = io.StringIO()
    try:
        with redirect_stdout(said), warnings.catch_warnings():
            for text in WARNINGS:
                warnings.filterwarnings('ignore', text)
            yield
    finally:
        for line in said.getvalue().splitlines():
            if line not in LINES:
                print(line)
