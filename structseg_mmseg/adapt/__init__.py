"""From the config of a supervised training to one that adapts its network to other images."""
from .config import BEST, SCORED, adaptation, method_of
from .network import METHODS, TERMS, Measured, build, load_checkpoint, load_config, measure
from .python_text import assignment
from .target import (Target, fitted, folder_of, inference_loader, pipeline_of, target_dataset,
                     target_of)

__all__ = [
    'BEST', 'METHODS', 'SCORED', 'TERMS', 'Measured', 'Target', 'adaptation', 'assignment', 'build',
    'fitted', 'folder_of', 'inference_loader', 'load_checkpoint', 'load_config', 'measure',
    'method_of', 'pipeline_of', 'target_dataset', 'target_of'
]
