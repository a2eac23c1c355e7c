from .adaptation_optim_wrapper import AdaptationOptimWrapper, AdaptationOptimWrapperConstructor

__all__ = ['AdaptationOptimWrapper', 'AdaptationOptimWrapperConstructor']
