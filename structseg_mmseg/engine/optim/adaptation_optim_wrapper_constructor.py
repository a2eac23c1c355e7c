from copy import deepcopy
from typing import Any, Dict, List, Optional

import torch
from mmengine.optim import AmpOptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from torch import nn
from torch.optim import SGD, Optimizer

from structseg_mmseg.errors import InputError

from .adaptation_optim_wrapper import AdaptationOptimWrapper


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AdaptationOptimWrapperConstructor:
    """Builds an optimizer for each part of an :class:`AdaptationSegmentor` or another model.

    Each key of the config that holds a dict with an ``optimizer`` is a part, with what
    ``DefaultOptimWrapperConstructor`` takes (``optimizer``, ``paramwise_cfg``, ``clip_grad``), or
    another one that the part names as its ``constructor``; every other key goes to all wrappers. A
    part is named after a term of the model, or holds the ``modules`` that it is; ``segmentor`` is
    all that remains, if anything does:

    .. code-block:: python

        optim_wrapper = dict(
            constructor='AdaptationOptimWrapperConstructor',
            type='OptimWrapper',
            segmentor=dict(optimizer=dict(type='SGD', ...)),
            heads=dict(modules=['decode_head', 'auxiliary_head'], optimizer=dict(...)),
            reconstruction=dict(optimizer=dict(type='Adam', ...)),
            adversary=dict(optimizer=dict(type='Adam', ...)))

    A term that the model lacks gets none, so an ablation changes the model alone; a term with
    parameters but no config is an error. Parts that are frozen get none either.

    With ``AmpOptimWrapper`` the precision is bfloat16, without a loss scale, unless ``dtype`` says
    float16: the game's gradients, down to 1e-9 a logit, vanish in float16 where the scale falls
    below 2^9, and bfloat16 has the range of float32.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None) -> None:
        self.common = dict(optim_wrapper_cfg)
        self.parts = {key: self.common.pop(key) for key, value in optim_wrapper_cfg.items()
                      if isinstance(value, dict) and 'optimizer' in value}
        if paramwise_cfg is not None:
            raise InputError('optim_wrapper.paramwise_cfg applies to no single optimizer: move it '
                             f'into one of optim_wrapper.{", optim_wrapper.".join(self.parts)}')

    def __call__(self, model: nn.Module) -> AdaptationOptimWrapper:
        model = getattr(model, 'module', model)
        kind = OPTIM_WRAPPERS.get(self.common.get('type', 'OptimWrapper'))
        if kind is AmpOptimWrapper and not next(model.parameters()).is_cuda:
            raise InputError('mixed precision (--amp, AmpOptimWrapper) requires a GPU: train '
                             'without it')
        if issubclass(kind, AmpOptimWrapper):
            self.common.setdefault('dtype', 'bfloat16')
            scale = self.common.get('loss_scale', 'dynamic')
            if scale == 'dynamic' and self.common['dtype'] == 'bfloat16':
                self.common['loss_scale'] = 1.
        wrappers = {}
        for part, module in self._modules(model).items():
            # A copy for each, as wrappers take their configs apart.
            config = deepcopy({**self.common, **self.parts[part]})
            config.pop('modules', None)
            wrappers[part] = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(
                type=config.pop('constructor', 'DefaultOptimWrapperConstructor'),
                paramwise_cfg=config.pop('paramwise_cfg', None),
                optim_wrapper_cfg=config))(module)
            _merge_groups(wrappers[part].optimizer)
            _start_momentum(wrappers[part].optimizer)
        return AdaptationOptimWrapper(**wrappers)

    def _modules(self, model: nn.Module) -> Dict[str, nn.Module]:
        """Each part as a module whose children have the names that they have in the model."""
        children: Dict[str, Any] = dict(model.named_children())
        terms = dict(children.pop('terms', {}))
        modules = dict(segmentor=nn.Module())
        for part, config in self.parts.items():
            if 'modules' in config:
                modules[part] = nn.Module()
                for name in config['modules']:
                    if name not in children:
                        raise InputError(f'optim_wrapper.{part}.modules has {name}: name children '
                                         f'of the model ({", ".join(children)}), each once')
                    modules[part].add_module(name, children.pop(name))
        for name, child in children.items():
            modules['segmentor'].add_module(name, child)
        modules.update(terms)
        modules = {part: module for part, module in modules.items()
                   if any(p.requires_grad for p in module.parameters())}
        for part in modules:
            if part not in self.parts:
                raise InputError(f'model.{"" if part == "segmentor" else "terms."}{part} has no '
                                 f'optimizer: add optim_wrapper.{part}, as in '
                                 'configs/_base_/methods')
        return modules


def _merge_groups(optimizer: Optimizer) -> None:
    """Make one group of all that share their options.

    With ``paramwise_cfg`` mmengine makes a group of each parameter, and optimizers go through
    groups one by one.
    """
    merged: List[tuple] = []
    for group in optimizer.param_groups:
        options = {key: value for key, value in group.items() if key != 'params'}
        for parameters, others in merged:
            if options == others:
                parameters += group['params']
                break
        else:
            merged.append((group['params'], options))
    optimizer.param_groups[:] = [dict(options, params=parameters) for parameters, options in merged]


def _start_momentum(optimizer: Optimizer) -> None:
    """Let the momentum of SGD start from zeros, from which the first step is the same.

    The fused one makes it of uninitialised memory in its first step, and leaves it so if that step
    is skipped because gradients overflow (torch 2.13). It also fails on parameters whose first
    gradient comes in a later step.
    """
    for group in optimizer.param_groups if isinstance(optimizer, SGD) else ():
        if group['momentum'] and not group['dampening']:
            for parameter in group['params']:
                optimizer.state[parameter]['momentum_buffer'] = torch.zeros_like(parameter)
