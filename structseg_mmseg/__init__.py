"""Unsupervised domain adaptation for semantic segmentation, a plugin of mmsegmentation.

Importing the package registers its parts; a config does so by ``custom_imports``.
"""
import warnings

# mmcv without its compiled operators, which nothing here uses.
warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')

from . import datasets, engine, evaluation, models  # noqa: E402,F401
from .version import __version__  # noqa: E402

__all__ = ['__version__']
