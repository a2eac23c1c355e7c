from .adaptation_optim_wrapper import AdaptationOptimWrapper
from .adaptation_optim_wrapper_constructor import AdaptationOptimWrapperConstructor

__all__ = ['AdaptationOptimWrapper', 'AdaptationOptimWrapperConstructor']
