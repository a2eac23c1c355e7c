from .atomic_checkpoint_hook import AtomicCheckpointHook
from .input_check_hook import InputCheckHook
from .label_free_hook import LabelFreeHook
from .panel_hook import PanelHook
from .summary_hook import SummaryHook
from .watch_hook import WatchHook

__all__ = ['AtomicCheckpointHook', 'InputCheckHook', 'LabelFreeHook', 'PanelHook', 'SummaryHook',
           'WatchHook']
