"""Who learns from a loss: frozen modules, frozen copies and reversed gradients."""
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def frozen(module: nn.Module, x: Tensor) -> Tensor:
    """A module's output, with a gradient for its input but none for its parameters."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    return functional_call(module, parameters, (x,))


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy without gradients, in evaluation mode, that ``init_weights`` leaves alone."""
    copy = deepcopy(module).requires_grad_(False)
    copy.eval()
    copy.is_init = True  # type: ignore[assignment]  # as mmengine marks what is initialised
    return copy


def reverse_gradient(x: Tensor) -> Tensor:
    """The identity, whose gradient has the other sign."""
    return _Reversal.apply(x)


class _Reversal(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient
