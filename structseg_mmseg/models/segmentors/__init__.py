from structseg_mmseg.models.adaptation import Step

from .adaptation_segmentor import AdaptationSegmentor
from .adv_recon_segmentor import AdvReconSegmentor

__all__ = ['AdaptationSegmentor', 'AdvReconSegmentor', 'Step']
