from .adv_recon_segmentor import AdvReconSegmentor

__all__ = ['AdvReconSegmentor']
