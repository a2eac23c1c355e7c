"""What the libraries below say at each import, of parts that nothing here uses."""
import warnings
from contextlib import contextmanager
from typing import Any, Iterator

import mmengine.logging

LINES = ('Could not import OneDL', )
WARNINGS = ('Fail to import ``MultiScaleDeformableAttention``', )  # mmcv without its operators


@contextmanager
def without_known_noise() -> Iterator[None]:
    """Import mmseg without these lines and warnings; all others are shown."""
    # Not sys.stdout, which modules that are imported meanwhile would keep as a default.
    print_log = mmengine.logging.print_log

    def print_unknown(msg: Any, *args, **kwargs) -> None:
        if msg not in LINES:
            print_log(msg, *args, **kwargs)

    mmengine.logging.print_log = print_unknown
    try:
        with warnings.catch_warnings():
            for text in WARNINGS:
                warnings.filterwarnings('ignore', text)
            yield
    finally:
        mmengine.logging.print_log = print_log
