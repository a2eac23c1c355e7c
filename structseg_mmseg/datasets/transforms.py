import mmcv
import mmengine.fileio as fileio
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs
from mmseg.registry import TRANSFORMS

from structseg_mmseg.bounds import Ratio
from structseg_mmseg.errors import InputError


@TRANSFORMS.register_module()
class MapLabelIds(BaseTransform):
    """Turn the labelIds that ``LoadAnnotations`` has read into class indices.

    It looks them up in the table of a :class:`LabelIdsDataset`, and does nothing where there is no
    label, so that mmseg's inferencers can run the pipeline, too.

    Required keys: ``label_lut``, ``seg_map_path``. Modified keys: ``gt_seg_map``.
    """

    def transform(self, results: dict) -> dict:
        """Map ``gt_seg_map``, uint8 (H, W).

        Raises:
            InputError: If the file is no map of ids, or holds one outside the table.
        """
        label = results.get('gt_seg_map')
        if label is None:
            return results
        path, lut = results['seg_map_path'], results['label_lut']
        shape = results.get('ori_shape', label.shape)[:2]
        if 1 not in shape:  # sides that LoadAnnotations drops
            shape = label.shape
        if len(shape) != 2 or label.size != np.prod(shape):
            raise InputError(f'{path} is a colour image: give the file of labelIds')
        try:
            results['gt_seg_map'] = lut.take(label).reshape(shape)
        except IndexError:
            raise InputError(f'{path} holds label id {label.max()}: labelIds end at '
                             f'{len(lut) - 1}, so give labelIds (not trainIds), or mend the file'
                             ) from None
        return results


@TRANSFORMS.register_module()
class LoadSynthiaLabels(LoadAnnotations):
    """``LoadAnnotations`` for SYNTHIA's labels: three channels of 16 bits, red for the ids.

    Pillow, which ``LoadAnnotations`` decodes with, would keep the upper 8 of them: zeros.
    """

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        label = mmcv.imfrombytes(
            fileio.get(path, backend_args=self.backend_args), flag='unchanged', backend='cv2')
        assert label is not None, f'failed to decode {path}'  # as mmcv says it of images
        if label.ndim != 3 or label.dtype != np.uint16:
            raise InputError(f'{path} has {label.dtype} and the shape {label.shape}: give the file '
                             'of GT/LABELS, with three channels of 16 bits')
        results['gt_seg_map'] = label[..., 2].astype(np.uint8)  # BGR
        results['seg_fields'].append('gt_seg_map')


@TRANSFORMS.register_module()
class MarkMargins(BaseTransform):
    """Mark margins of a target image, in which pseudo-labels are not to count: VFM-UDA, HRDA.

    The mark goes with the image through all transforms that follow, in the place of a label map,
    up to a :class:`PackTrusted`. Where those pad, they are to do so with 255, as with labels.

    Required keys: ``img``. Added keys: ``gt_seg_map``, ``seg_fields``.

    Args:
        top, bottom, left, right (float): Shares of the image's height or width; 0.03, 0.25, 0.03
            and 0.03 in VFM-UDA.
    """

    def __init__(self, top: Ratio = 0., bottom: Ratio = 0., left: Ratio = 0.,
                 right: Ratio = 0.) -> None:
        self.shares = (top, bottom, left, right)

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map``, uint8 (H, W): 0, and 255 in the margins."""
        height, width = results['img'].shape[:2]
        top, bottom, left, right = (
            int(share * side) for share, side in zip(self.shares, (height, height, width, width)))
        marks = np.full((height, width), 255, np.uint8)
        marks[top:height - bottom, left:width - right] = 0
        results['gt_seg_map'] = marks
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results


@TRANSFORMS.register_module()
class PackTrusted(PackSegInputs):
    """``PackSegInputs`` for a target image whose margins are marked: see :class:`MarkMargins`.

    The data sample gets ``trusted``, the pixels inside of them, and no label.
    """

    def transform(self, results: dict) -> dict:
        """Pack; ``trusted`` is bool (1, H, W)."""
        trusted = np.ascontiguousarray(results.pop('gt_seg_map') != 255)
        packed = super().transform(results)
        packed['data_samples'].trusted = PixelData(data=torch.from_numpy(trusted[None]))
        return packed
