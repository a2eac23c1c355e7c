"""Exceptions for what a user can mend, and how the tools show them."""
import errno
import os
import re
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Dict, Iterator, Optional

MIM = Path(__file__).with_name('.mim')  # links in a checkout, copies in a wheel
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # the latter: the user's quota


def configs() -> Dict[str, Path]:
    """The configs of the package by their names, as paths below ``MIM``."""
    return {path.stem: path.relative_to(MIM) for path in sorted(MIM.glob('configs/[!_]*/*.py'))}


class InputError(ValueError):
    """Bad input: its message is one sentence that names the file or key and the remedy."""


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite: its message says which, in one sentence with the remedy."""


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """End a tool with one sentence instead of a traceback if :func:`sentence_of` has one.

    ``STRUCTSEG_TRACEBACK=1`` in the environment keeps the traceback.
    """
    try:
        yield
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or os.environ.get('STRUCTSEG_TRACEBACK') == '1':
            raise
        sys.exit(f'error: {sentence}')


def sentence_of(error: Optional[BaseException]) -> Optional[str]:
    """What to tell the user about an error, or one behind it; None if it is not for them to mend.

    Covers :class:`InputError` (also from a registry or a data loader's worker), a loss that is not
    finite, a registered name that does not exist, and a file or folder that cannot be used.
    """
    while error is not None:
        text = str(error.args[0]) if error.args else ''
        if isinstance(error, InputError):
            # A DataLoader's worker sends its whole traceback as the message, a registry puts
            # "class `X` in x.py: " before it: what was raised stands at the end.
            line = text.strip().splitlines()[-1].split('InputError: ')[-1]
            return re.sub(r'^(class `\w+` in \S+: )+', '', line)
        if isinstance(error, NonFiniteLossError):
            return text
        unknown = re.search(r'\S+ is not in the \S+ registry', text)
        if isinstance(error, KeyError) and unknown:
            return (f'{unknown[0]}: check the spelling of this `type` in the config, and that '
                    '`custom_imports` names the package that registers it')
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return f'{error.filename or "a file"} cannot be written, as the disk is full: make room'
        if isinstance(error, FileNotFoundError):
            near = _near_config(str(error))
            return f'{error}: ' + (f'did you mean {near}?' if near else 'check the path')
        if isinstance(error, OSError) and error.filename is not None:
            return f'{error}: check the path and its rights, or give another'
        error = error.__cause__ or error.__context__
    return None


def _near_config(text: str) -> Optional[Path]:
    """The config of the package that is nearest in name to a file that a text says is missing."""
    file = re.search(r'([^\s\'"]+)\.py\b', text)
    if file is None:
        return None
    path, known = Path(file[1]), configs()
    family = [name for name, config in known.items() if config.parent.name == path.parent.name]
    near = get_close_matches(path.name, family or known, 1)
    return known[near[0]] if near else None
