from typing import Any, Dict, NamedTuple, Sequence, Tuple, Union

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList, add_prefix
from torch import Tensor

from structseg_mmseg.bounds import Ratio
from structseg_mmseg.models.backbones.two_scales import windows


class Detail(NamedTuple):
    """What a head says of a window alone.

    Args:
        logits (Tensor): (N, C, h, w).
        rows (slice): Where the window lies in the head's map of the image.
        columns (slice): Likewise.
        share (float): Of the loss, whose other part is the whole image's.
    """

    logits: Tensor
    rows: slice
    columns: slice
    share: float

    def crop(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """The window of maps (..., H, W), of the image whose map has this size."""
        vertical, horizontal = (side // cells for side, cells in zip(maps.shape[-2:], size))
        return maps[..., self.rows.start * vertical:self.rows.stop * vertical,
                    self.columns.start * horizontal:self.columns.stop * horizontal]


@MODELS.register_module()
class HRDAHead(BaseDecodeHead):
    r"""The head of HRDA (Hoyer, Dai and Van Gool, ECCV 2022), for features of :class:`TwoScales`.

    A head gives logits c of the context and d of the detail, a second one a scale attention,
    :math:`a = \sigma(A(\mathrm{context}))`, which is 0 outside the window. With :math:`\uparrow`
    for resizing to the detail's resolution, the logits are

    .. math:: f = \uparrow a \odot d + \uparrow ((1 - a) \odot c),

    where d is 0 outside the window, and the mean over windows where several overlap. The loss of
    a pass that sees one window is

    .. math:: L = (1 - \lambda) \, L(f, y) + \lambda \, L(d, y_{window}).

    Batch normalisation sees two batches in a pass. As passes run in another order than their
    statistics (see :class:`Step`), which suits one batch, running statistics differ a little from
    the published: of source, mixed and masked images the source's weigh 33% instead of 27%.

    Args:
        head (dict): Config of the head of both scales, without ``num_classes``.
        attention (dict): Config of the attention's head, likewise; it attends to each class apart.
        detail_weight (float): :math:`\lambda`, 0.1 in HRDA.
        **kwargs: As in mmseg's ``BaseDecodeHead``, less ``in_channels`` and ``channels``.
    """

    def __init__(self,
                 head: dict,
                 attention: dict,
                 detail_weight: Ratio = 0.1,
                 **kwargs) -> None:
        super().__init__(1, 1, init_cfg=None, dropout_ratio=0, **kwargs)
        del self.conv_seg  # the two heads have their own
        shared = dict(num_classes=self.num_classes, align_corners=self.align_corners)
        self.head = MODELS.build(head, default_args=shared)
        self.scale_attention = MODELS.build(attention, default_args=shared)
        self.detail_weight = detail_weight

    def forward(self, inputs: Sequence[Tensor]) -> Union[Tensor, Tuple[Tensor, Detail]]:
        """Logits (N, num_classes, h, w) and, if the detail is of one window, what is said of it."""
        levels = len(inputs) // 2
        detail, place, context = inputs[:levels], inputs[levels], inputs[levels + 1:]
        coarse = self.head(context)
        fine = self.head(detail)
        attention = self.scale_attention(context).sigmoid()
        size = [2 * side for side in coarse.shape[2:]]
        if not len(place):
            fine = _joined(fine, len(coarse), size)
            return self._up(attention, size) * fine + self._up((1 - attention) * coarse, size)
        rows, columns = (slice(2 * start, 2 * start + extent)
                         for start, extent in zip(place.tolist(), fine.shape[2:]))
        inside = coarse.new_zeros(size)
        inside[rows, columns] = 1
        attention = attention * inside[::2, ::2]
        border = (columns.start, size[1] - columns.stop, rows.start, size[0] - rows.stop)
        fused = self._up(attention, size) * F.pad(fine, border) + self._up(
            (1 - attention) * coarse, size)
        return fused, Detail(fine, rows, columns, self.detail_weight)

    def _up(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        return resize(maps, size, mode='bilinear', align_corners=self.align_corners)

    def loss_by_feat(self, seg_logits: Any, batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """The losses of ``loss_decode``, those of the window under ``detail``."""
        if isinstance(seg_logits, Tensor):  # of all windows
            return super().loss_by_feat(seg_logits, batch_data_samples)
        logits, detail = seg_logits
        losses = super().loss_by_feat(logits, batch_data_samples)
        cropped = [SegDataSample(gt_sem_seg=PixelData(data=detail.crop(
            sample.gt_sem_seg.data, logits.shape[2:]))) for sample in batch_data_samples]
        parts = super().loss_by_feat(detail.logits, cropped)
        for share, part in ((1 - detail.share, losses), (detail.share, parts)):
            for name in part:
                if 'loss' in name:
                    part[name] = share * part[name]
        return {**losses, **add_prefix(parts, 'detail')}


def _joined(logits: Tensor, number: int, size: Sequence[int]) -> Tensor:
    """The mean of logits of windows over where they lie in maps (number, C, *size)."""
    total = logits.new_zeros(number, logits.shape[1], *size)
    count = logits.new_zeros(size)
    for part, (rows, columns) in zip(logits.split(number), windows(size, logits.shape[2:])):
        total[:, :, rows, columns] += part
        count[rows, columns] += 1
    return total / count
