from typing import Tuple

import torch
from mmengine.model import ModuleList
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Count, Weight
from structseg_mmseg.errors import InputError

from .adversary import Adversary


@MODELS.register_module()
class RegionAdversary(Adversary):
    r"""ROAD (Chen, Li and Van Gool, CVPR 2018), its second part: each image region is a game.

    The last features are cut into a grid. With the logits d of each unit from its own region's
    domain classifier, the classifiers minimise
    :math:`L = -\mathbb{E}_S[\log\sigma(d)] - \mathbb{E}_T[\log(1-\sigma(d))]`, means over all
    units, and E minimises ``loss_weight`` times :math:`-L`, as behind a gradient reversal layer: it
    is an :class:`Adversary` of ``features`` by ``minimax`` with a D of several.

    Args:
        discriminator (dict): Config of a region's classifier, with ``in_channels``.
        grid (tuple[int, int]): Rows and columns.
        loss_weight (float): Weight of the encoder's side of the game.
        **kwargs: As in :class:`Term`.
    """

    def __init__(self,
                 discriminator: dict,
                 grid: Tuple[Count, Count] = (3, 3),
                 loss_weight: Weight = 0.01,
                 **kwargs) -> None:
        super().__init__(
            discriminator, mode='minimax', of='features', loss_weight=loss_weight, **kwargs)
        self.discriminator = Regions(discriminator, grid)


class Regions(ModuleList):
    """A discriminator for each part of a map, in rows; none sees beyond its own.

    Args:
        discriminator (dict): Config of one.
        grid (tuple[int, int]): Rows and columns. Parts differ by a unit where these do not divide
            the map.
    """

    def __init__(self, discriminator: dict, grid: Tuple[Count, Count]) -> None:
        rows, columns = grid
        super().__init__(MODELS.build(discriminator) for _ in range(rows * columns))
        self.grid = tuple(grid)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 1, H, W) of a map (N, in_channels, H, W)."""
        rows, columns = self.grid
        height, width = x.shape[2:]
        if height < rows or width < columns:
            raise InputError(f'features of {width}x{height} have no {columns}x{rows} regions: '
                             'lower grid of the RegionAdversary, or train on larger images')
        discriminators = iter(self)
        return torch.cat([
            torch.cat([next(discriminators)(part) for part in row.tensor_split(columns, dim=3)],
                      dim=3) for row in x.tensor_split(rows, dim=2)], dim=2)
