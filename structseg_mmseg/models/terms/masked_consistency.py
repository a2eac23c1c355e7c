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
    the jitter and blur of :class:`SelfTraining` in draws of its own, before masking. A source
    image has its own labels, and q is 1.

    Unless only the source is masked, a term before this one labels the target: a
    :class:`SelfTraining`, whose teacher, labels and unmixed q it shares, or, as beside an adversary
    or alone, a :class:`PseudoLabels`. None of the losses of ``loss_decode`` has a part in it, as
    there.

    With ``tokens`` it is the encoder's tokens that are hidden instead, each with probability r, as
    in VFM-UDA (Englert et al., CVPR Workshops 2024): see :meth:`TIMMEncoder.hiding`.

    Args:
        block (int): b; 32 for crops of 512, 64 for those of 1024 in MIC.
        ratio (float): r; 0.7 in MIC.
        loss_weight (float): :math:`\lambda`, 1 in MIC.
        jitter (float): The largest shift of brightness, contrast, saturation and hue; 0.2 in MIC
            for synthetic sources. None leaves A out, as MIC does from clear to adverse weather.
        images (str): Which are masked: those of the ``target`` (MIC for synthetic sources), of the
            ``source`` (an ablation of MIC's), or the first half of ``both`` batches (MIC from clear
            to adverse weather).
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
                 images: str = 'target',
                 tokens: bool = False,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        self.block = block
        self.ratio = self._within('ratio', ratio)
        self.loss_weight = loss_weight
        self.jitter = jitter
        self.images = self._chosen('images', images, ('target', 'source', 'both'))
        self.tokens = tokens

    @property
    def shared(self) -> List[nn.Module]:
        return []  # it has no networks

    def prepare(self, batches: Dict[str, Batch]) -> None:
        """Add the ``masked`` batch."""
        chosen = self._chosen_images(batches['source'], batches['target'])
        if self.jitter is not None:
            chosen = strongly_augmented(
                chosen, self.segmentor.data_preprocessor, 'masked', self.jitter)
        if self.tokens:
            grid = self.segmentor.backbone.grid(chosen.inputs.shape[-2:])
            batches['masked'] = replace(chosen, hidden=~self._seen(chosen, grid)[:, 0])
        else:
            batches['masked'] = replace(chosen, inputs=chosen.inputs * self.mask(chosen))

    def _chosen_images(self, source: Batch, target: Batch) -> Batch:
        """Those to be masked, with labels and weights."""
        if self.images != 'source' and target.labels is None:
            raise InputError('a MaskedConsistency needs labels of the target: put a SelfTraining '
                             'or a PseudoLabels before it in model.terms')
        if self.images == 'target':
            return target
        labels = source.labels
        assert labels is not None
        weights = torch.ones_like(labels, dtype=source.inputs.dtype)
        if self.images == 'source':
            return replace(source, weights=weights)
        if source.inputs.shape != target.inputs.shape or len(labels) % 2:
            raise InputError("a MaskedConsistency with images='both' takes half of the images of "
                             'each domain: set one even batch_size, and a RandomCrop of one '
                             'crop_size in both pipelines')
        half = len(labels) // 2
        assert target.labels is not None and target.weights is not None
        return replace(
            target,
            inputs=torch.cat([source.inputs[:half], target.inputs[:half]]),
            data_samples=source.data_samples[:half] + target.data_samples[:half],
            weights=torch.cat([weights[:half], target.weights[:half]]))

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
