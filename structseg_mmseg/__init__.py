"""Unsupervised domain adaptation for semantic segmentation, a plugin of mmsegmentation.

Importing the package registers its parts; a config does so by ``custom_imports``.
"""
from . import datasets, engine, evaluation, models  # noqa: F401
from .version import __version__

__all__ = ['__version__']
