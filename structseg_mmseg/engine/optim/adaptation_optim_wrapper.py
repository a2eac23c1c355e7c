from contextlib import contextmanager
from typing import Iterator, Optional, Sequence

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from structseg_mmseg.errors import InputError


class AdaptationOptimWrapper(OptimWrapperDict):
    """Optimizers that share the backward passes of an iteration and step together at its end.

    A step of an iteration calls :meth:`backward` for each pass, then :meth:`update` once, naming
    the parts that step. The wrappers agree in type and accumulation, so the first of them speaks
    for all. With ``AmpOptimWrapper`` they share one loss scale, since the gradients of all parts
    come out of the same backward passes; an optimizer whose gradients overflow skips its step, as
    in torch. Each clips the gradients of its own parameters, by its own ``clip_grad``, and logs
    their norm as ``<part>.grad_norm``.

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
        """Tell every wrapper the iteration, from which accumulation counts.

        Raises:
            InputError: If gradients are to accumulate over iterations of several steps.
        """
        steps = getattr(getattr(model, 'module', model), 'steps', ())
        if len(steps) > 1 and self._first._accumulative_counts > 1:
            raise InputError('gradients cannot accumulate where model.steps has several steps: set '
                             'optim_wrapper.accumulative_counts=1')
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
            InputError: If a part has no optimizer.
        """
        unknown = set(parts or ()) - set(self.keys())
        if unknown:
            raise InputError(f'model.steps names the part {min(unknown)}: choose of those with an '
                             f'optimizer ({", ".join(self.keys())})')
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
