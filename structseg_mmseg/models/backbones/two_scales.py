from itertools import product
from typing import List, Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule, Sequential
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Count
from structseg_mmseg.errors import InputError


@MODELS.register_module()
class TwoScales(BaseModule):
    """The encoder of HRDA (Hoyer, Dai and Van Gool, ECCV 2022), for an :class:`HRDAHead`.

    One backbone sees the image twice: whole at half its sides, the context, and in windows at its
    own, the detail. A pass that learns sees one window, which is drawn for its whole batch; a
    teacher, and a test, see all windows, at half overlap and in one batch.

    Its features are those of the detail, of the windows one after another; the place of the window
    that was drawn, in cells from the top and from the left, on the CPU, or nothing (int64, (2, ) or
    (0, )); and those of the context, so the last ones are the context's.

    Args:
        backbone (dict): Config of the backbone.
        window (int): Side of the windows in pixels; 512 in HRDA, of crops of 1,024.
        cell (int): Pixels between the places of windows; 8 in HRDA, so that windows begin where
            cells of the head's map of the context do: twice the stride of DAFormer's decoder.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.

    Attributes:
        context (Sequential): Halves images, then the backbone.
    """

    def __init__(self,
                 backbone: dict,
                 window: Count = 512,
                 cell: Count = 8,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        self.context = Sequential(
            nn.Upsample(scale_factor=0.5, mode='bilinear'), MODELS.build(backbone))
        self.window = window
        self.cell = cell

    def forward(self, x: Tensor) -> List[Tensor]:
        """Features of images (N, 3, H, W): see the class."""
        size = x.shape[2:]
        if any(side % self.cell for side in size):
            raise InputError(f'a TwoScales was given images of {size[0]}x{size[1]} pixels: give '
                             f'sides that are multiples of {self.cell}')
        context = self.context(x)
        if self.training and torch.is_grad_enabled():
            place = self.draw(size)
            top, left = (self.cell * place).tolist()
            places = [(slice(top, top + self.window), slice(left, left + self.window))]
        else:
            place = torch.empty(0, dtype=torch.int64)
            places = windows(size, (self.window, self.window))
        detail = self.context[1](torch.cat([x[:, :, rows, columns] for rows, columns in places]))
        return [*detail, place, *context]

    def draw(self, size: Sequence[int]) -> Tensor:
        """The place of a window; as in HRDA's code, the last one possible is never drawn."""
        # Of the CPU's generator, which the training loop seeds for each iteration.
        return torch.cat([torch.randint(max(1, (side - self.window + 1) // self.cell), (1, ))
                          for side in size])


def windows(size: Sequence[int], window: Sequence[int]) -> List[Tuple[slice, slice]]:
    """Rows and columns of windows, at half overlap, that cover a map; the last ones end with it."""
    sides = []
    for side, extent in zip(size, window):
        extent = min(side, extent)
        stride = max(1, extent // 2)
        sides.append([slice(start, start + extent) for start in (
            min(start, side - extent) for start in range(0, side - extent + stride, stride))])
    return list(product(*sides))
