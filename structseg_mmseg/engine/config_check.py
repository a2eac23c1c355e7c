"""A config held against the signatures of what it builds, before anything is built."""
import inspect
import math
import re
from difflib import get_close_matches
from typing import Any, Dict, Iterator, Optional, Tuple, Union, get_args, get_type_hints

import mmseg.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch import nn
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from structseg_mmseg.bounds import Count, Within
from structseg_mmseg.errors import InputError

LOADERS = ('train_dataloader', 'target_dataloader', 'val_dataloader', 'test_dataloader',
           'statistics_dataloader')
# What a config may hold beside the arguments of its runner.
KEYS = {*inspect.signature(Runner).parameters, *LOADERS, 'custom_imports', 'runner_type', 'compile',
        'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg'}


def check_config(cfg: Union[Config, dict]) -> None:
    """Look at the keys of the top level and of this package's parts.

    Keys of other packages' parts are theirs: what those say about them stands in
    :func:`structseg_mmseg.errors.one_sentence_errors`.

    Args:
        cfg (Config | dict): A training's or test's.

    Raises:
        InputError: If a key is misspelt or of no use, or its value has the wrong type or is out of
            range; it names the first.
    """
    for key in cfg:
        near = get_close_matches(key, KEYS, 1, cutoff=0.9)
        if key not in KEYS and near:
            raise InputError(f'{key} is no key of a config: correct it to {near[0]}, or choose a '
                             'name that is less like it')
    for key in ('model', *LOADERS):
        _check_value(key, cfg.get(key), Optional[dict])
    for key in LOADERS:
        _check_value(f'{key}.batch_size', (cfg.get(key) or {}).get('batch_size', 1), Count)
    ours = {name: part for registry in vars(mmseg.registry).values()
            if isinstance(registry, Registry) for name, part in registry.module_dict.items()
            if part.__module__.startswith('structseg_mmseg.')}
    for name, part in _parts(cfg, ''):
        if part['type'] in ours:
            _check_part(name, part, ours[part['type']])
    for name, term in ((cfg.get('model') or {}).get('terms') or {}).items():
        if term is not None and 'type' not in term:
            raise InputError(f'model.terms.{name} is {term!r}: give it a type, set it to None, or '
                             'correct its name')


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
        if key in ('type', '_scope_') or key in getattr(cls, 'moved', ()):
            continue
        if key not in keys:
            near = get_close_matches(key, keys, 1)
            remedy = f'correct it to {near[0]}' if near else f'choose of {", ".join(sorted(keys))}'
            raise InputError(f'{name}.{key} is no key of {cls.__name__}: {remedy}')
        if key in hints:
            _check_value(f'{name}.{key}', value, hints[key])


def _signature(cls: type) -> Tuple[Dict[str, Any], set]:
    """The types of this package's arguments of a class, and the names of all that it takes."""
    hints: Dict[str, Any] = {}
    keys: set = set()
    for base in cls.__mro__:
        if base in (nn.Module, object):
            break
        init = vars(base).get('__init__')
        if init is None:
            continue
        parameters = inspect.signature(init).parameters.values()
        keys |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if base.__module__.startswith('structseg_mmseg.'):
            hints = {**get_type_hints(init, include_extras=True), **hints}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return hints, keys - {'self'}


def _check_value(name: str, value: Any, hint: Any) -> None:
    bounds = next((extra for part in (hint, *get_args(hint))
                   for extra in getattr(part, '__metadata__', ())), Within(-math.inf))
    given = tuple(value) if isinstance(value, list) else value  # --cfg-options knows no tuples
    try:
        check_type(given, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        right = bounds.low == -math.inf or all(
            number is None or bounds.low <= number <= bounds.high
            for number in (given if isinstance(given, tuple) else [given]))
    except TypeCheckError:
        right = False
    if not right:
        text = hint.__name__ if isinstance(hint, type) else str(hint)
        text = re.sub(r'Annotated\[(\w+), [^]]*]', r'\1', text).replace('typing.', '')
        if math.isfinite(bounds.low):
            text += f', at least {bounds.low}'
        if math.isfinite(bounds.high):
            text += f' and at most {bounds.high}'
        raise InputError(f'{name} is {value!r}: give {text}')
