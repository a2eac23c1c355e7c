"""Compares a config with the signatures of this package's classes, before anything is built.

The parts of other packages report mistakes themselves, with a traceback.
"""
import inspect
import re
from collections.abc import Sequence as SequenceABC
from difflib import get_close_matches
from typing import (Annotated, Any, Dict, Iterator, Set, Tuple, Union, get_args, get_origin,
                    get_type_hints)

import mmseg.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.segmentors import Step

# What a config may hold at its top level that a misspelt key may have been meant for.
KEYS = {*inspect.signature(Runner).parameters, 'target_dataloader', 'statistics_dataloader',
        'custom_imports', 'runner_type', 'compile', 'sync_bn', 'model_wrapper_cfg'}


def check_config(cfg: Union[Config, dict]) -> None:
    """Check the keys of the top level, and keys and values of this package's parts.

    Args:
        cfg (Config | dict): A training's or test's.

    Raises:
        InputError: If a key is unknown, or a value has the wrong type or is out of range; it names
            the first.
    """
    for key in cfg:
        near = get_close_matches(key, KEYS, 1, cutoff=0.9)
        if key not in KEYS and near:
            raise InputError(f'unknown key {key}: did you mean {near[0]}? If not, choose a name '
                             'that differs more')
    registries = [registry for registry in vars(mmseg.registry).values()
                  if isinstance(registry, Registry)]
    ours = {name: cls for registry in registries for scope in (registry, registry.parent)
            for name, cls in scope.module_dict.items()
            if cls.__module__.startswith('structseg_mmseg.')}
    for name, part in _parts(cfg, ''):
        if part['type'] in ours:
            _check_part(name, part, ours[part['type']])
    model = cfg.get('model') or {}
    for index, step in enumerate(model.get('steps') or []):
        _check_part(f'model.steps.{index}', step, Step)
    for name, term in (model.get('terms') or {}).items():
        if term is not None and 'type' not in term:
            raise InputError(f'model.terms.{name} has no type: give it one, set the term to None, '
                             'or correct its name')


def _parts(cfg: Any, name: str) -> Iterator[Tuple[str, dict]]:
    """Every dict with a ``type``, and its full key."""
    if isinstance(cfg, (dict, Config)):
        if isinstance(cfg.get('type'), str):
            yield name, cfg
        children = cfg.items()
    else:
        children = enumerate(cfg) if isinstance(cfg, (list, tuple)) else ()
    for key, child in children:
        yield from _parts(child, f'{name}.{key}' if name else str(key))


def _check_part(name: str, part: dict, cls: type) -> None:
    hints, keys = _signature(cls)
    for key, value in part.items():
        if key in hints and not _fits(value, hints[key]):
            text = hints[key].__name__ if isinstance(hints[key], type) else str(hints[key])
            text = re.sub(r'\b[a-z_]+\.', '', text)  # classes without their modules
            text = re.sub(r'Annotated\[(\w+), ([^]]*)]', r'\1 \2', text)
            raise InputError(f'{name}.{key} is {value!r}: give {text}')
        if key not in keys | {'type', '_scope_'}:
            near = get_close_matches(key, keys, 1)
            remedy = f'did you mean {near[0]}?' if near else f'its keys are {sorted(keys)}'
            raise InputError(f'unknown key {name}.{key} of {cls.__name__}: {remedy}')


def _signature(cls: type) -> Tuple[Dict[str, Any], Set[str]]:
    """The types of the arguments that this package annotates, and the names of all arguments."""
    hints: Dict[str, Any] = {}
    keys: Set[str] = set()
    for base in cls.__mro__:
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            keys |= {p.name for p in parameters
                     if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            if base.__module__.startswith('structseg_mmseg.'):
                theirs = get_type_hints(base.__init__, include_extras=True)  # type: ignore[misc]
                hints = {**theirs, **hints}
            if not any(p.kind == p.VAR_KEYWORD for p in parameters):
                break
    return hints, keys - {'self'}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type and within its bounds; a list passes for a tuple."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, args[0]) and args[1].low <= value <= args[1].high
    if origin is Union:
        return any(_fits(value, arg) for arg in args)
    if origin in (SequenceABC, tuple):
        items = value if isinstance(value, (list, tuple)) else ()
        kinds = args if origin is tuple else args * len(items)
        return 0 < len(items) == len(kinds) and all(map(_fits, items, kinds))
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True
