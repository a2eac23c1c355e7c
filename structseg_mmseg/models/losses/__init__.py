from .adversarial_loss import AdversarialLoss
from .reconstruction_loss import ReconstructionLoss

__all__ = ['AdversarialLoss', 'ReconstructionLoss']
