from .atomic_checkpoint_hook import AtomicCheckpointHook
from .input_check_hook import InputCheckHook

__all__ = ['AtomicCheckpointHook', 'InputCheckHook']
