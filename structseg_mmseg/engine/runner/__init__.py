from .adaptation_train_loop import AdaptationTrainLoop

__all__ = ['AdaptationTrainLoop']
