from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

import torch
from mmengine.optim import (AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper,
                            OptimWrapperDict)
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from structseg_mmseg.errors import InputError


class AdaptationOptimWrapper(OptimWrapperDict):
    """Optimizers that share the backward passes of an iteration and step together at its end.

    An iteration calls :meth:`backward` for each pass, then :meth:`update` once; one of several
    steps does so for each, naming the parts that step. The wrappers agree
    in type and accumulation, so the first of them speaks for all. With ``AmpOptimWrapper`` they
    share one loss scale, since E's, G's and D's gradients come out of the same backward passes; an
    optimizer whose gradients overflow skips its step, as torch does it. Each clips the gradients of
    its own parameters, by its own ``clip_grad``, and logs their norm as ``<part>.grad_norm``.

    Args:
        **optim_wrappers (OptimWrapper): As in ``OptimWrapperDict``.
    """

    def __init__(self, **optim_wrappers: OptimWrapper) -> None:
        super().__init__(**optim_wrappers)
        self._stepping = list(self.values())
        for part, wrapper in optim_wrappers.items():
            if wrapper.clip_grad_kwargs:
                wrapper.grad_name = f'{part}.{wrapper.grad_name}'
        if isinstance(self._first, AmpOptimWrapper):
            self._share_loss_scaler()

    def _share_loss_scaler(self) -> None:
        scaler = self._first.loss_scaler
        update = scaler.update

        def update_after_all_steps(*args) -> None:
            # Each wrapper's step ends with an update, but the scale must last for all of them.
            if len(scaler._per_optimizer_states) == len(self._stepping):
                update(*args)

        scaler.update = update_after_all_steps
        for wrapper in self.values():
            wrapper.loss_scaler = scaler

    @property
    def _first(self) -> OptimWrapper:
        return next(iter(self.values()))

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Precision and, while gradients accumulate, no exchange of gradients."""
        with self._first.optim_context(model):
            yield

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Tell every wrapper the iteration, from which accumulation counts."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, init_counts, max_counts)

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Backpropagate one pass's loss into all parameters; steps nothing."""
        count = self._first._inner_count
        self._first.backward(self._first.scale_loss(loss), **kwargs)
        self._first._inner_count = count  # a pass is not an iteration

    def update(self, skip: bool = False, parts: Optional[Sequence[str]] = None) -> bool:
        """End a step: its optimizers step, unless gradients still accumulate.

        Args:
            skip (bool): Drop the gradients, those that accumulated before included.
            parts (Sequence[str], optional): Whose optimizers step; all if None. The gradients of
                the others are dropped.

        Returns:
            bool: Whether parameters were updated.

        Raises:
            InputError: If a part has no optimizer, or parts step while gradients accumulate.
        """
        unknown = set(parts or ()) - set(self.keys())
        if unknown:
            raise InputError(f'model.steps names the part {min(unknown)}: choose of those with an '
                             f'optimizer ({", ".join(self.keys())})')
        if parts is not None and self._first._accumulative_counts > 1:
            raise InputError('gradients cannot accumulate where model.steps names parts: set '
                             'optim_wrapper.accumulative_counts=1')
        for wrapper in self.values():
            wrapper._inner_count += 1
        if skip or not self._first.should_update():
            if skip:
                self.zero_grad()
            return False
        # A step of one domain may leave a part without gradients.
        self._stepping = [self[part] for part in (self.keys() if parts is None else parts)
                          if any(p.grad is not None for group in self[part].param_groups
                                 for p in group['params'])]
        for wrapper in self._stepping:
            wrapper.step()
        self.zero_grad()
        return True

    def load_state_dict(self, state_dict: dict) -> None:
        """As in ``OptimWrapperDict``, in the memory format of the parameters.

        Fused optimizers take for granted that parameters and states lie alike in memory, and step
        wrongly, without a word, where those of a checkpoint do not.
        """
        super().load_state_dict(state_dict)
        for wrapper in self.values():
            for parameter, states in wrapper.optimizer.state.items():
                for name, value in states.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        states[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(AmpOptimWrapper):
    """``AmpOptimWrapper`` on a CPU, where mmengine's refuses to be built; it takes its place there.

    Args:
        loss_scale (str or float or dict): As in ``AmpOptimWrapper``.
        dtype (str, optional): ``bfloat16``, which is the default, or ``float16``.
        **kwargs: As in ``OptimWrapper``.
    """

    def __init__(self,
                 loss_scale: Union[str, float, dict] = 'dynamic',
                 dtype: Optional[str] = None,
                 **kwargs) -> None:
        OptimWrapper.__init__(self, **kwargs)
        fixed = isinstance(loss_scale, float)
        self._scale_update_param = loss_scale if fixed else None
        options: Any = dict(init_scale=loss_scale) if fixed else loss_scale
        self.loss_scaler = torch.amp.GradScaler('cpu', **({} if options == 'dynamic' else options))
        self.cast_dtype = getattr(torch, dtype or 'bfloat16')

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """As ``AmpOptimWrapper``'s."""
        with OptimWrapper.optim_context(self, model), torch.autocast('cpu', self.cast_dtype):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AdaptationOptimWrapperConstructor:
    """Builds an optimizer for each part of an :class:`AdvReconSegmentor` or another model.

    Each key of the config that holds a dict with an ``optimizer`` is a part, with what
    ``DefaultOptimWrapperConstructor`` takes (``optimizer``, ``paramwise_cfg``, ``clip_grad``);
    every other key goes to all wrappers. A part is named after a term of the model, or holds the
    ``modules`` that it is; ``segmentor`` is all that remains, if anything does:

    .. code-block:: python

        optim_wrapper = dict(
            constructor='AdaptationOptimWrapperConstructor',
            type='OptimWrapper',
            segmentor=dict(optimizer=dict(type='SGD', ...)),
            heads=dict(modules=['decode_head', 'auxiliary_head'], optimizer=dict(...)),
            reconstruction=dict(optimizer=dict(type='Adam', ...)),
            adversary=dict(optimizer=dict(type='Adam', ...)))

    A term that the model lacks gets none, so an ablation changes the model alone; a term with
    parameters but no config is an error.
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
        on_cpu = self.common.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available()
        if on_cpu and hasattr(model, 'memory_format'):
            # The backward pass of a 1x1 convolution of stride 2 on one image writes outside its
            # memory, in bfloat16 and with channels last (torch 2.13).
            model.memory_format = torch.contiguous_format
            model.to(memory_format=model.memory_format)  # type: ignore[call-overload]  # no stub
        wrappers = {}
        for part, module in self._modules(model).items():
            # A copy for each, as wrappers take their configs apart.
            config = deepcopy({**self.common, **self.parts[part]})
            config.pop('modules', None)
            if on_cpu:
                config['type'] = 'CPUAmpOptimWrapper'
            wrappers[part] = DefaultOptimWrapperConstructor(
                config, config.pop('paramwise_cfg', None))(module)
            _merge_groups(wrappers[part].optimizer)
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
        if not list(modules['segmentor'].parameters()):  # all have a part, or it is no segmentor
            del modules['segmentor']
        modules.update({name: term for name, term in terms.items()
                        if any(p.requires_grad for p in term.parameters())})
        for part in modules:
            if part not in self.parts:
                raise InputError(f'model.{"" if part == "segmentor" else "terms."}{part} has no '
                                 f'optimizer: add optim_wrapper.{part}, as in '
                                 'configs/_base_/schedules')
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
