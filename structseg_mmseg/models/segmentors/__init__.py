from .adv_recon_segmentor import AdvReconSegmentor
from .step import Step

__all__ = ['AdvReconSegmentor', 'Step']
