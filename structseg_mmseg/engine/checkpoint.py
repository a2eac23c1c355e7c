"""Loading checkpoints as data, so that no file runs code, and comparing them with a model."""
import logging
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint
from torch import Tensor, nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.segmentors import AdaptationSegmentor


def _statistic(owner: type, name: str) -> Callable:
    """``getattr`` for the one use that mmengine's checkpoints make of it."""
    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError(f'getattr of {owner}')
    return getattr(HistoryBuffer, name)


# What mmengine's own checkpoints hold beside tensors and plain containers: logged scalars.
SAFE_TYPES = [
    HistoryBuffer, (_statistic, 'builtins.getattr'), np.ndarray, np.dtype,
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]  # private: what files name
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    *(type(np.dtype(t)) for t in (
        np.bool_, np.int32, np.int64, np.uint8, np.float32, np.float64))
]


def load_safely() -> None:
    """Let no checkpoint that this process loads run code: for tools and runners to call.

    mmengine 0.10.7 unpickles without restriction, onedl-mmengine falls back to that for files that
    a restricted load refuses. This replaces mmengine's loader of local files by
    :func:`load_from_local` and makes torch restrict the loads that go another way (a URL,
    ``open-mmlab://``), unless the environment has ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``.
    """
    if 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ:  # torch takes only one of the two
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint file as data.

    Args:
        filename (str): Its path.
        map_location (Any): As in :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        InputError: If there is no such file, it is corrupt, or it holds more than data.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise InputError(f'there is no checkpoint {filename}: check the path')
    try:
        if zipfile.is_zipfile(filename):  # each record has a checksum, which torch does not verify
            with zipfile.ZipFile(filename) as records:
                damaged = records.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f'{damaged} is damaged')
        with torch.serialization.safe_globals(SAFE_TYPES):
            checkpoint = torch.load(filename, map_location=map_location, weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # a flipped bit may raise anything
        text = str(error).split('WeightsUnpickler error: ')[-1].strip() or type(error).__name__
        reason = text.splitlines()[0].split('. ')[0]
        raise InputError(f'{filename} is not a checkpoint that can be loaded as data ({reason}): '
                         'take another copy, or save it anew as a state dict') from None
    if not isinstance(checkpoint, dict):
        raise InputError(f'{filename} holds a {type(checkpoint).__name__}, no state dict: '
                         'give a checkpoint of mmengine')
    return checkpoint


def write_checkpoint(state: Dict[str, Tensor], path: str, meta: Optional[dict] = None) -> None:
    """Write weights as a checkpoint, which gets its name once it is complete."""
    save_checkpoint(dict(meta=meta or {}, state_dict=state), f'{path}.part')
    os.replace(f'{path}.part', path)


def last_sound_checkpoint(work_dir: str) -> Optional[str]:
    """The checkpoint to go on from: the last one, or the newest before it that is not damaged.

    Args:
        work_dir (str): Of a training.

    Returns:
        str, optional: Its path, or None if the training has saved none.

    Raises:
        InputError: If none is sound.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.exists():
        return None
    saved = Path(work_dir).glob('iter_*.pth')
    # A run may have been killed while mmengine wrote the name.
    last = Path(pointer.read_text().strip() or max(
        saved, key=lambda path: path.stat().st_mtime, default=pointer))
    earlier = [path for path in last.parent.glob('iter_*.pth')
               if 0 <= _iteration(path) < _iteration(last)]
    damaged = []
    for path in [last, *sorted(earlier, key=_iteration, reverse=True)]:
        try:
            load_from_local(str(path), map_location='cpu')
        except InputError as error:
            damaged.append(str(error))
        else:
            if damaged:
                print_log(f'{"; ".join(damaged)}; the run goes on from {path}', 'current',
                          logging.WARNING)
            return str(path)
    raise InputError(f'{last} is damaged or gone, and {last.parent} has no sound checkpoint from '
                     'before: restore one, or start anew without --resume')


def _iteration(path: Path) -> int:
    name = re.fullmatch(r'iter_(\d+)\.pth', path.name)
    return int(name[1]) if name else -1


def check_fit(model: nn.Module, checkpoint: dict, name: Optional[str] = None) -> None:
    """Check that a checkpoint is one of this model: no key silently missing or left over.

    Parts that only training uses (a term, the source's statistics) may be absent from either, as a
    whole.

    Args:
        model (nn.Module): The model to be loaded.
        checkpoint (dict): As it was loaded; a bare state dict will do.
        name (str, optional): Its file, for the message.

    Raises:
        InputError: If keys or shapes differ.
    """
    theirs = checkpoint.get('state_dict', checkpoint)
    theirs = {key.removeprefix('module.'): value for key, value in theirs.items()}
    ours = model.state_dict()
    prefixes = {'.'.join(key.split('.')[:2 if key.startswith('terms.') else 1]) + '.'
                for key in (*ours, *theirs) if key.startswith(AdaptationSegmentor.training_only)}
    for prefix in prefixes:
        if not all(any(key.startswith(prefix) for key in keys) for keys in (ours, theirs)):
            ours, theirs = ({key: value for key, value in keys.items()
                             if not key.startswith(prefix)} for keys in (ours, theirs))
    problems = []
    for text, keys in (('lacks', ours.keys() - theirs.keys()),
                       ('has unknown', theirs.keys() - ours.keys()),
                       ('has other shapes for', {
                           key for key in ours.keys() & theirs.keys()
                           if getattr(theirs[key], 'shape', None) != ours[key].shape})):
        if keys:
            problems.append(f'{text} {len(keys)} keys, e.g. {min(keys)}')
    if problems:
        raise InputError(f'{name or "the checkpoint"} is not one of this model (it '
                         f'{"; it ".join(problems)}): give the config that it was trained with')
