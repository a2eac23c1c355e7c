from .atomic_checkpoint_hook import AtomicCheckpointHook
from .input_check_hook import InputCheckHook
from .panel_hook import PanelHook

__all__ = ['AtomicCheckpointHook', 'InputCheckHook', 'PanelHook']
