"""The one exception for input that a user can mend, and how the tools show it."""
import errno
import os
import re
import sys
import textwrap
from contextlib import contextmanager
from itertools import zip_longest
from traceback import walk_tb
from typing import Iterator, Optional

from torch import nn

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # the latter: the user's share of it


class InputError(ValueError):
    """Bad input: its message is one sentence that names the file or key and the remedy."""


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite: its message says which, in one sentence with the remedy."""


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Let a tool end on a user's mistake with one sentence instead of a traceback.

    Covers :class:`InputError` (also when a registry or a data loader's worker has wrapped it),
    a registered name that does not exist, what another package says while it builds a part of the
    config, features too small to normalise, a file or folder that cannot be used and a loss that is
    not finite. Anything else is a bug and keeps its traceback; ``STRUCTSEG_TRACEBACK=1`` keeps all
    of them.
    """
    try:
        yield
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None or os.environ.get('STRUCTSEG_TRACEBACK') == '1':
            raise
        sys.exit(f'error: {sentence}')


def _sentence(error: Optional[BaseException]) -> Optional[str]:
    while error is not None:
        text = str(error.args[0]) if error.args else str(error)
        if isinstance(error, InputError):
            # A DataLoader's worker sends its whole traceback as the message, a registry puts
            # "class `X` in x.py: " before it: what was raised stands at the end.
            line = text.strip().splitlines()[-1].split('InputError: ')[-1]
            return re.sub(r'^(class `\w+` in \S+: )+', '', line)
        if isinstance(error, NonFiniteLossError):
            return text
        unknown = re.search(r'(\S+) is not in the (\S+) registry', text)
        if isinstance(error, KeyError) and unknown:
            return (f'{unknown[0]}: check the spelling of this `type` in the config, and that '
                    '`custom_imports` names the package that registers it')
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return f'{error.filename or "a file"} cannot be written, as the disk is full: make room'
        if re.match('Expected more than 1 (value per channel|spatial element) when training', text):
            return ('normalisation has met features of a single value a channel: train on larger '
                    'images, or raise batch_size')
        misfit = re.match(r'Given groups=.* to have (\d+) channels, but got (\d+) channels', text)
        if misfit:
            return (f'{_layer(error)} takes {misfit[1]} channels and gets {misfit[2]}: set '
                    'in_channels in the config to what comes before it')
        if isinstance(error, FileNotFoundError):
            return f'{error}: check the path'
        if isinstance(error, OSError) and error.filename is not None:
            return f'{error}: check the path and its rights, or give another'
        part = _part_that_refuses(error)
        if part is not None:
            says = textwrap.shorten(text, 200) or type(error).__name__
            return f'{part} says {says!r}: check its keys in the config'
        error = error.__cause__ or error.__context__
    return None


def _part_that_refuses(error: BaseException) -> Optional[str]:
    """The name of what a registry was building when another package's code failed."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    # What a scheduler cannot do with its keys it says when it steps.
    if frames[-1].f_globals['__name__'].startswith('mmengine.optim.scheduler.'):
        return [type(frame.f_locals['self']).__name__ for frame in frames
                if 'self' in frame.f_locals][-1]
    builds = [i for i, frame in enumerate(frames)
              if frame.f_code.co_name in ('build_from_cfg', 'build_runner_from_cfg')]
    if not builds:
        return None
    about_arguments = isinstance(error, TypeError) and '__init__() ' in str(error)
    for frame, called in zip_longest(frames[builds[-1] + 1:], frames[builds[-1] + 2:]):
        name = frame.f_code.co_name
        hands_on = (name == '__init__' and about_arguments) if called is None else (
            name in ('__init__', called.f_code.co_name))  # what it extends
        if frame.f_globals['__name__'].startswith('structseg_mmseg.') and not hands_on:
            return None  # which may be a bug
    names = (frames[i].f_locals for i in builds)
    classes = (local.get('obj_cls') or local.get('runner_cls') for local in names)
    return ['mmengine', *(cls.__name__ for cls in classes if cls)][-1]


def _layer(error: BaseException) -> str:
    """The name of the layer that an error comes from, as the model that holds it calls it."""
    modules = [frame.f_locals['self'] for frame, _ in walk_tb(error.__traceback__)
               if isinstance(frame.f_locals.get('self'), nn.Module)]
    model, *_, layer = modules
    names = {module: name for name, module in model.named_modules()}
    return 'model.' + names[layer].removeprefix('module.')  # which a distributed wrapper adds
