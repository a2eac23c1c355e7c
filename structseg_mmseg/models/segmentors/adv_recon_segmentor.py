from mmseg.registry import MODELS

from .adaptation_segmentor import AdaptationSegmentor


@MODELS.register_module()
class AdvReconSegmentor(AdaptationSegmentor):
    r"""The paper's model: an :class:`AdaptationSegmentor` with two terms.

    A ``Reconstruction`` (Equation 1) and an ``Adversary`` (Equation 2) play Equation 3. The encoder
    E of the paper is backbone and neck, S the decode head, G the reconstruction's decoder, D the
    adversary's discriminator.
    """
