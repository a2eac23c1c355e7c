"""A config held against the signatures of what it builds, before anything is built."""
import inspect
import math
import re
from collections.abc import Sequence as SequenceABC
from difflib import get_close_matches
from typing import Any, Dict, Iterator, Optional, Tuple, Union, get_args, get_origin, get_type_hints

import mmseg.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from structseg_mmseg.bounds import Count, Natural, Within
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.segmentors import Step

LOADERS = ('train_dataloader', 'target_dataloader', 'val_dataloader', 'test_dataloader',
           'statistics_dataloader')
# Whose parts say of which types their arguments are, and mean it.
TYPED = ('structseg_mmseg.', 'mmengine.optim.scheduler.', 'mmengine.runner.loops',
         'mmseg.datasets.basesegdataset', 'torch.optim.')
# What a runner takes from a part's config before it is built.
TAKEN = ('type', '_scope_', 'convert_to_iter_based', 'num_batch_per_epoch')
# Keys that come together or not at all.
TOGETHER = [('train_cfg', 'train_dataloader', 'optim_wrapper'),
            *((f'{mode}_cfg', f'{mode}_dataloader', f'{mode}_evaluator')
              for mode in ('val', 'test'))]
# Keys of a paramwise_cfg that need to know the rate.
MULTIPLY_LR = {'custom_keys', 'bias_lr_mult', 'dcn_offset_lr_mult'}
# What a config may hold beside the arguments of its runner.
KEYS = {*inspect.signature(Runner).parameters, *LOADERS, 'custom_imports', 'runner_type', 'compile',
        'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg'}


def check_config(cfg: Union[Config, dict]) -> None:
    """Look at the keys of the top level, and of parts that say what they take.

    Keys of other parts are theirs: what those say about them stands in
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
    for key, hint in dict(get_type_hints(Runner.__init__),
                          **dict.fromkeys(LOADERS, Optional[dict])).items():
        value = cfg.get(key)
        if isinstance(value, dict):  # a default hook may be None, which its type does not say
            value = {name: part for name, part in value.items() if part is not None}
        if value is not None:
            _check_value(key, value, hint)
    if cfg.get('model') is None:
        raise InputError('model is missing: say what is to be trained or tested')
    if cfg['model'].get('data_preprocessor') is None:
        raise InputError('model.data_preprocessor is missing: name one, such as '
                         'SegDataPreProcessor')
    _check_value('model.test_cfg', cfg['model'].get('test_cfg'), Optional[dict])
    loop = cfg.get('train_cfg')
    if loop is not None and not {'type', 'by_epoch'} & loop.keys():
        raise InputError('train_cfg.type is missing: name a loop, such as AdaptationTrainLoop')
    schedulers = cfg.get('param_scheduler')
    if isinstance(schedulers, list):  # not some of each optimizer
        for index, scheduler in enumerate(schedulers):
            _check_value(f'param_scheduler.{index}', scheduler, dict)
            _check_value(f'param_scheduler.{index}.type', scheduler.get('type'), str)
    for keys in TOGETHER:
        absent = [key for key in keys if cfg.get(key) is None]
        if 0 < len(absent) < len(keys):
            raise InputError(f'{absent[0]} is missing: {", ".join(keys)} come together or not at '
                             'all')
    _check_loaders(cfg)
    if cfg.get('optim_wrapper') is not None:
        _check_optimizers(cfg['optim_wrapper'])
    _check_parts(cfg)


def _check_loaders(cfg: Union[Config, dict]) -> None:
    for key in LOADERS:
        loader = cfg.get(key)
        if loader is not None:
            if 'dataset' not in loader:
                raise InputError(f'{key}.dataset is missing: say what the loader is to load')
            _check_part(key, loader, DataLoader)
            _check_value(f'{key}.batch_size', loader.get('batch_size', 1), Count)
            _check_value(f'{key}.num_workers', loader.get('num_workers', 0), Natural)


def _check_optimizers(wrapper: dict) -> None:
    constructor = wrapper.get('constructor')
    _check_value('optim_wrapper.constructor', constructor, Optional[str])
    if constructor is None and 'optimizer' not in wrapper:
        raise InputError('optim_wrapper has neither an optimizer nor a constructor that makes one '
                         "of each part: set constructor='AdaptationOptimWrapperConstructor'")
    for name, part in (('optim_wrapper', wrapper),
                       *((f'optim_wrapper.{key}', part) for key, part in wrapper.items())):
        if isinstance(part, dict) and 'optimizer' in part:
            optimizer = part['optimizer']
            _check_value(f'{name}.optimizer', optimizer, dict)
            _check_value(f'{name}.paramwise_cfg', part.get('paramwise_cfg'), Optional[dict])
            multiplies = MULTIPLY_LR & (part.get('paramwise_cfg') or {}).keys()
            if multiplies and optimizer.get('lr') is None:
                raise InputError(f'{name}.optimizer.lr is missing: paramwise_cfg multiplies it')
            kind = str(optimizer.get('type'))
            is_name = all(word.isidentifier() for word in kind.split('.'))
            # mmengine says nothing of it, or takes a module of that name.
            if not is_name or not callable(mmseg.registry.OPTIMIZERS.get(kind)):
                raise InputError(f'{name}.optimizer.type is {kind!r}, which no optimizer has for a '
                                 'name: check the spelling')


def _check_parts(cfg: Union[Config, dict]) -> None:
    registries = [registry for registry in vars(mmseg.registry).values()
                  if isinstance(registry, Registry)]
    typed = {name: part for registry in registries for scope in (registry, registry.parent)
             for name, part in scope.module_dict.items() if part.__module__.startswith(TYPED)}
    for name, part in _parts(cfg, ''):
        if part['type'] in typed:
            _check_part(name, part, typed[part['type']])
        # Heads say no types, and torch says what is wrong with these.
        _check_value(f'{name}.align_corners', part.get('align_corners', False), bool)
        if part.get('loss_decode') in ([], {}):
            raise InputError(f'{name}.loss_decode is empty: name a loss')
    for index, step in enumerate(cfg['model'].get('steps') or []):
        _check_part(f'model.steps.{index}', step, Step)
    for name, term in (cfg['model'].get('terms') or {}).items():
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
        if key in TAKEN:
            continue
        if key not in keys:
            near = get_close_matches(key, keys, 1)
            remedy = f'correct it to {near[0]}' if near else f'choose of {", ".join(sorted(keys))}'
            raise InputError(f'{name}.{key} is no key of {cls.__name__}: {remedy}')
        if key in hints:
            _check_value(f'{name}.{key}', value, hints[key])


def _signature(cls: type) -> Tuple[Dict[str, Any], set]:
    """The types of a class's arguments, where they can be relied on, and the names of all."""
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
        if base.__module__.startswith(TYPED):
            theirs = get_type_hints(init, include_extras=True)
            if not base.__module__.startswith('structseg_mmseg.'):  # who take 1e5 for an int
                theirs = {key: float if hint is int else hint for key, hint in theirs.items()}
            hints = {**theirs, **hints}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return hints, keys - {'self'}


def _check_value(name: str, value: Any, hint: Any) -> None:
    bounds = next((extra for part in (hint, *get_args(hint))
                   for extra in getattr(part, '__metadata__', ())), Within(-math.inf))
    # --cfg-options knows no tuples.
    alike = [value, tuple(value)] if isinstance(value, list) else [value]
    numbers = value if isinstance(value, (list, tuple)) else [value]
    right = any(_is_of(given, hint) for given in alike)
    if right and bounds.low != -math.inf:
        right = len(numbers) > 0 and all(
            number is None or bounds.low <= number <= bounds.high for number in numbers)
    if not right:
        text = hint.__name__ if isinstance(hint, type) else str(hint)
        text = re.sub(r'Annotated\[(\w+), [^]]*]', r'\1', text)
        text = re.sub(r'\b[\w.]+\.(\w+)', r'\1', text)  # classes without their modules
        if math.isfinite(bounds.low):
            text += f', at least {bounds.low}'
        if math.isfinite(bounds.high):
            text += f' and at most {bounds.high}'
        raise InputError(f'{name} is {value!r}: give {text}')


def _is_of(value: Any, hint: Any) -> bool:
    for option in get_args(hint) if get_origin(hint) is Union else (hint, ):
        if isinstance(value, str) and get_origin(option) is SequenceABC:
            continue  # a sequence of strings, too, which nobody means
        try:
            check_type(
                value, option, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError:
            continue
        return True
    return False
