from dataclasses import replace
from typing import Dict, List, Optional, Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Count, Ratio, Weight
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch, View
from structseg_mmseg.models.adaptation.colour import strongly_augmented

from .self_training import weighted_cross_entropy
from .term import Term


@MODELS.register_module()
class MaskedConsistency(Term):
    r"""MIC (Hoyer, Dai, Wang and Van Gool, CVPR 2023): masked images have the whole image's labels.

    An image is cut into blocks of b pixels, of which each is hidden with probability r: with u
    uniform in [0, 1], one for each block, the mask is :math:`M_i = [u_{block(i)} > r]`. With a
    teacher's labels :math:`\hat y` and weights q of the target (see :class:`PseudoLabels`) and the
    student's softmax p of :math:`M \odot A(x_t)` at the size of the image,

    .. math:: L = \lambda \, \mathrm{mean}_i \Bigl( -q_i \log p_{i, \hat y_i} \Bigr)

    over all pixels. Hidden pixels are 0 after normalisation: the data set's mean colour. A is
    the jitter and blur of :class:`SelfTraining` in draws of its own, before masking.

    A term before this one labels the target: a :class:`SelfTraining`, whose teacher, labels and
    unmixed q it shares, or, as beside an adversary or alone, a :class:`PseudoLabels`. None of the
    losses of ``loss_decode`` has a part in it, as there.

    With ``tokens`` it is the encoder's tokens that are hidden instead, each with probability r, as
    in VFM-UDA (Englert et al., CVPR Workshops 2024): see :meth:`TIMMEncoder.hiding`.

    Args:
        block (int): b; 32 for crops of 512, 64 for those of 1024 in MIC.
        ratio (float): r; 0.7 in MIC.
        loss_weight (float): :math:`\lambda`, 1 in MIC.
        jitter (float): The largest shift of brightness, contrast, saturation and hue; 0.2 in MIC
            for synthetic sources. None leaves A out, as MIC does from clear to adverse weather.
        tokens (bool): Whether tokens are hidden, not blocks, whose size does not matter then.
        **kwargs: As in :class:`Term`.
    """

    passes = ('masked', )
    heads = ('decode_head', )

    def __init__(self,
                 block: Count = 32,
                 ratio: Ratio = 0.7,
                 loss_weight: Weight = 1.,
                 jitter: Optional[Ratio] = 0.2,
                 tokens: bool = False,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 <= ratio <= 1:
            raise InputError(
                f'ratio of a MaskedConsistency is {ratio!r}: give a number from 0 to 1')
        self.block = block
        self.ratio = ratio
        self.loss_weight = loss_weight
        self.jitter = jitter
        self.tokens = tokens

    @property
    def shared(self) -> List[nn.Module]:
        return []  # it has no networks

    def prepare(self, batches: Dict[str, Batch]) -> None:
        """Add the ``masked`` batch."""
        target = batches['target']
        if target.labels is None:
            raise InputError('a MaskedConsistency needs labels of the target: put a SelfTraining '
                             'or a PseudoLabels before it in model.terms')
        if self.jitter is not None:
            target = strongly_augmented(
                target, self.segmentor.data_preprocessor, 'masked', self.jitter)
        if self.tokens:
            grid = self.segmentor.backbone.grid(target.inputs.shape[-2:])
            batches['masked'] = replace(target, hidden=~self._seen(target, grid)[:, 0])
        else:
            batches['masked'] = replace(target, inputs=target.inputs * self.mask(target))

    def mask(self, batch: Batch) -> Tensor:
        """1 where a batch's images are seen, 0 where they are hidden, (N, 1, H, W)."""
        inputs = batch.inputs
        grid = [max(1, round(side / self.block)) for side in inputs.shape[-2:]]
        seen = self._seen(batch, grid).to(inputs)
        return F.interpolate(seen, inputs.shape[-2:], mode='nearest')

    def _seen(self, batch: Batch, grid: Sequence[int]) -> Tensor:
        """Cells of a grid that each image shows, bool (N, 1, *grid)."""
        cells = torch.stack([torch.rand(1, *grid, generator=generator)
                             for generator in batch.generators('mask')])
        return (cells > self.ratio).to(batch.inputs.device)

    def loss(self, view: View) -> Dict[str, Tensor]:
        loss = weighted_cross_entropy(view, self.segmentor.decode_head.ignore_index)
        return dict(loss_masked=self.loss_weight * loss)
