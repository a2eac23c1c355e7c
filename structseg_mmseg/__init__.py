"""Unsupervised domain adaptation for semantic segmentation, a plugin of mmsegmentation.

Importing the package registers its parts; a config does so by ``custom_imports``.
"""
from .noise import without_known_noise
from .version import __version__

with without_known_noise():
    from . import datasets, engine, evaluation, models  # noqa: F401

__all__ = ['__version__']
