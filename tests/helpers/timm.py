"""timm without torchvision, which its import takes for granted; small encoders do not need it."""
import sys
from enum import Enum
from importlib.util import find_spec
from types import ModuleType

import pytest
from torch import nn


class _Stub(ModuleType):
    """A module with a class of any name."""

    __path__: list = []
    __version__ = '0'
    InterpolationMode = Enum(
        'InterpolationMode', 'NEAREST NEAREST_EXACT BILINEAR BICUBIC BOX HAMMING LANCZOS')

    def __getattr__(self, name: str) -> type:
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (nn.Module, ), {})


def _import_timm():
    names = [] if find_spec('torchvision') else [f'torchvision{name}' for name in (
        '', '.datasets', '.models', '.models.feature_extraction', '.ops', '.ops.misc',
        '.transforms', '.transforms.functional')]
    for name in names:
        sys.modules[name] = _Stub(name)
        parent, _, child = name.rpartition('.')
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        return pytest.importorskip('timm', '1.0.20')
    finally:  # other tests find no torchvision, as before
        for name in names:
            del sys.modules[name]


timm = _import_timm()

SMALL = dict(embed_dim=64, depth=2, num_heads=2)
DINOV2 = dict(type='TIMMEncoder', model_name='vit_small_patch14_dinov2',
              options=dict(SMALL, dynamic_img_size=True))
REGISTERS = dict(DINOV2, model_name='vit_small_patch14_reg4_dinov2')
DINOV3 = dict(type='TIMMEncoder', model_name='vit_small_patch16_dinov3', options=SMALL)
