import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

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
