from .adaptation_runner import AdaptationRunner
from .adaptation_train_loop import AdaptationTrainLoop

__all__ = ['AdaptationRunner', 'AdaptationTrainLoop']
