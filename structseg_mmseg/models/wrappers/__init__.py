from .adaptation_ddp import AdaptationDistributedDataParallel, unwrapped

__all__ = ['AdaptationDistributedDataParallel', 'unwrapped']
