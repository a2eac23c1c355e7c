from .adaptation_optim_wrapper import (AdaptationOptimWrapper, AdaptationOptimWrapperConstructor,
                                       CPUAmpOptimWrapper)

__all__ = ['AdaptationOptimWrapper', 'AdaptationOptimWrapperConstructor', 'CPUAmpOptimWrapper']
