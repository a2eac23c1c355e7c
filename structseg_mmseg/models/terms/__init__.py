from .adversary import Adversary
from .reconstruction import Reconstruction
from .term import Term, View, frozen

__all__ = ['Adversary', 'Reconstruction', 'Term', 'View', 'frozen']
