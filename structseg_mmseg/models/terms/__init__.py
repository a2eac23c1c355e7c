from .adversary import Adversary
from .class_size import ClassSize
from .discrepancy import Discrepancy
from .distillation import Distillation
from .feature_distance import FeatureDistance
from .masked_consistency import MaskedConsistency
from .min_entropy import MinEntropy
from .pseudo_labels import PseudoLabels
from .reconstruction import Reconstruction
from .region_adversary import RegionAdversary
from .self_training import SelfTraining
from .target_statistics import TargetStatistics
from .term import Term
from .terms import Terms

__all__ = [
    'Adversary', 'ClassSize', 'Discrepancy', 'Distillation', 'FeatureDistance',
    'MaskedConsistency', 'MinEntropy', 'PseudoLabels', 'Reconstruction', 'RegionAdversary',
    'SelfTraining', 'TargetStatistics', 'Term', 'Terms'
]
