from .batch import Batch
from .branches import Branches
from .gradients import frozen, frozen_copy, reverse_gradient
from .passes import Pass
from .step import Step
from .view import View

__all__ = [
    'Batch', 'Branches', 'Pass', 'Step', 'View', 'frozen', 'frozen_copy', 'reverse_gradient'
]
