from .atomic_checkpoint_hook import AtomicCheckpointHook
from .input_check_hook import InputCheckHook
from .panel_hook import PanelHook
from .summary_hook import SummaryHook
from .watch_hook import WatchHook

__all__ = ['AtomicCheckpointHook', 'InputCheckHook', 'PanelHook', 'SummaryHook', 'WatchHook']
