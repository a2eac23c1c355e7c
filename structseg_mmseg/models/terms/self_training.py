from dataclasses import replace
from typing import Dict

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmseg.registry import MODELS
from torch import Tensor

from structseg_mmseg.bounds import Ratio, Weight
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch, View
from structseg_mmseg.models.adaptation.colour import strongly_augmented, weakly_augmented

from .pseudo_labels import PseudoLabels


@MODELS.register_module()
class SelfTraining(PseudoLabels):
    r"""Mixed images with a teacher's labels: DACS (Tranheden et al., WACV 2021), DAFormer.

    DAFormer is Hoyer, Dai and Van Gool, CVPR 2022. The teacher gives target images labels
    :math:`\hat y` and a weight q (see :class:`PseudoLabels`). ClassMix (Olsson et al., WACV 2021)
    draws half of the classes of a source label, rounded up, whose pixels M it pastes onto the
    target image, and

    .. math::
        x_m &= A(M \odot x_s + (1 - M) \odot x_t) \\
        y_m &= M \odot y_s + (1 - M) \odot \hat y \\
        w &= M + (1 - M) \, q \\
        L &= \lambda \, \mathrm{mean}_i \Bigl( -w_i \log p_{i, y_{m,i}} \Bigr),

    with the student's softmax p of :math:`x_m` at the size of the image. A are colour jitter, with
    probability 0.8, and Gaussian blur of :math:`\sigma` from 0.15 to 1.15 pixels, with probability
    0.5, as in DAFormer, whose batches share these two decisions; here each image has its own. All
    draws are the image's own, too: see :meth:`Batch.generators`.

    None of the losses of ``loss_decode`` has a part in it, nor has an auxiliary head: those that
    ignore pixels' weights, such as Lovasz's, would trust every pseudo-label.

    It logs the teacher's ``confident`` share of pixels, the mean of q.

    Args:
        loss_weight (float): :math:`\lambda`, 1 in DACS and DAFormer.
        mean_over (str): ``all`` pixels (DACS, DAFormer), or the ``valid`` ones, whose labels are
            not to be ignored. Likewise ``avg_non_ignore`` of the head's loss for the source: true
            in DACS and VFM-UDA, false in DAFormer. Neither mean depends on the weight of pasted
            pixels to be ignored, 0 in VFM-UDA and 1 in the others: they have no loss.
        classes_of (str): Whether classes are drawn of those of the ``image`` (DACS) or of the
            ``batch``, on all ranks (DAFormer's code, which its authors call unintended). The
            label to be ignored counts as a class, as in both.
        jitter (float): The largest shift of brightness, contrast, saturation and hue; 0.25 in DACS,
            0.2 in DAFormer.
        weak_jitter (bool): Whether clean images are jittered, too (VFM-UDA): the source of its own
            pass and the target to be mixed, not what the teacher sees or what is pasted. Its
            probability of 0.9 and strengths, of 32/255, 0.5, 0.5 and 0.05, are VFM-UDA's.
        **kwargs: As in :class:`PseudoLabels`.
    """

    passes = ('mixed', )
    heads = ('decode_head', )

    def __init__(self,
                 loss_weight: Weight = 1.,
                 mean_over: str = 'all',
                 classes_of: str = 'image',
                 jitter: Ratio = 0.2,
                 weak_jitter: bool = False,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_weight = loss_weight
        self.mean_over = self._chosen('mean_over', mean_over, ('all', 'valid'))
        self.classes_of = self._chosen('classes_of', classes_of, ('image', 'batch'))
        self.jitter = jitter
        self.weak_jitter = weak_jitter

    def prepare(self, batches: Dict[str, Batch]) -> None:
        """Label the target and add the ``mixed`` batch."""
        super().prepare(batches)
        source, target = batches['source'], batches['target']
        if source.inputs.shape != target.inputs.shape:
            raise InputError(
                f'source images of shape {tuple(source.inputs.shape)} cannot be mixed with target '
                f'images of shape {tuple(target.inputs.shape)}: set one batch_size, and a '
                'RandomCrop of one crop_size in both pipelines')
        clean, preprocessor = target, self.segmentor.data_preprocessor
        if self.weak_jitter:
            batches['source'] = weakly_augmented(source, preprocessor)
            clean = weakly_augmented(target, preprocessor)
        batches['mixed'] = strongly_augmented(
            self.class_mix(source, clean), preprocessor, 'strong', self.jitter)

    def class_mix(self, source: Batch, target: Batch) -> Batch:
        """Half of the source's classes pasted onto target images of the same shape."""
        ignore = self.segmentor.decode_head.ignore_index
        labels, pseudo, weights = source.labels, target.labels, target.weights
        assert labels is not None and pseudo is not None and weights is not None
        pasted = self._pasted(labels.where(labels != ignore, self.num_classes), target)
        mixed = target.labelled(torch.where(pasted, labels, pseudo),
                                weights.masked_fill(pasted, 1))
        return replace(mixed, inputs=torch.where(pasted.unsqueeze(1), source.inputs, target.inputs))

    def _pasted(self, labels: Tensor, batch: Batch) -> Tensor:
        """Pixels (N, H, W) of the classes that are drawn, bool."""
        present = labels.new_zeros(len(labels), self.num_classes + 1).scatter_(
            1, labels.flatten(1), 1)
        if self.classes_of == 'batch':
            of_any = present.amax(dim=0)
            all_reduce(of_any, 'max')
            present = of_any.expand_as(present)
        # A random number for each class, present or not, so that the host need not know which are.
        numbers = torch.stack([torch.rand(self.num_classes + 1, generator=generator)
                               for generator in batch.generators('ClassMix')]).to(labels.device)
        place = numbers.where(present > 0, 2).argsort(dim=1).argsort(dim=1)
        half = (present.sum(dim=1, keepdim=True) + 1) // 2
        return (place < half).gather(1, labels.flatten(1)).view_as(labels)

    def loss(self, view: View) -> Dict[str, Tensor]:
        view.show_labels('pseudo-label', self.pseudo)
        loss = weighted_cross_entropy(
            view, self.segmentor.decode_head.ignore_index, self.mean_over == 'valid')
        return dict(loss_mixed=self.loss_weight * loss, confident=self.confident)


def weighted_cross_entropy(view: View, ignore: int, valid: bool = False) -> Tensor:
    """Cross-entropy of a pass at the size of the image, each pixel weighted by its batch's weight.

    Args:
        view (View): Of a batch with labels and weights.
        ignore (int): The label of pixels that have no loss.
        valid (bool): Whether the mean is over those that have one, on all ranks, or over all.
    """
    assert view.batch.weights is not None
    view.show('weight', view.batch.weights.unsqueeze(1), 0, 1)
    losses = []
    for share, logits, labels, weights in view.parts():
        # mmseg's own would cast weights to float32, and wait for the device to count valid pixels.
        by_pixel = F.cross_entropy(logits, labels, ignore_index=ignore, reduction='none')
        loss = share * (weights * by_pixel).mean()
        if valid:
            counted = (labels != ignore).to(loss).mean()
            all_reduce(counted, 'mean')
            loss = loss / counted.clamp(min=1 / labels.numel())
        losses.append(loss)
    return sum(losses[1:], losses[0])
