from typing import Any, Dict, Iterator, List, Tuple

import torch
from mmengine.dist import all_reduce
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Natural, Ratio
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch, frozen_copy
from structseg_mmseg.models.adaptation.batch_statistics import live_norms
from structseg_mmseg.models.adaptation.view import at_least_float32, single_map

from .term import Term


@MODELS.register_module()
class PseudoLabels(Term):
    r"""A mean teacher labels the target (Tarvainen and Valpola, NeurIPS 2017; DACS; DAFormer).

    With the student's parameters :math:`\theta_t` after t updates, the teacher's are

    .. math:: \phi_t = \alpha_t \phi_{t-1} + (1 - \alpha_t) \theta_t, \quad
              \alpha_t = \min \bigl( 1 - \tfrac{1}{t + 1}, \alpha \bigr), \quad \phi_0 = \theta_0.

    Of its softmax p at the size of the image, pixel i gets the label
    :math:`\mathrm{argmax}_c \, p_{ic}` and the weight

    .. math:: q = \mathrm{mean}_j \, [\max_c p_{jc} \ge \tau].

    Pixels that the preprocessor has padded get the label to be ignored, and do not count in q.
    Other terms find both in ``batches['target']``, so this one comes before them. The teacher is
    a copy of the student without auxiliary head and terms, made once weights are loaded; it is part
    of checkpoints, and the same on all ranks but for statistics of batch normalisation. With
    ``model.test_cfg.model='teacher'`` it is what is tested and exported.

    Published methods differ in what follows; the sets of DACS (its code, ``trainUDA.py``) and
    DAFormer (``mmseg/models/uda/dacs.py``) are in ``configs/_base_/methods``.

    Args:
        threshold (float): :math:`\tau`; 0.968 in DACS, DAFormer and MIC.
        alpha (float): :math:`\alpha`; 0.99 in DACS, 0.999 in DAFormer and MIC.
        ema_at (str): When the average is taken. At the ``start`` of a step, of the weights that the
            one before has left (DAFormer), :math:`\theta_0` counts as one of the averaged: the
            equation above. At its ``end`` (DACS) it does not: :math:`\phi_1 = \theta_1`, and
            :math:`\alpha_t` is that of t - 1. (Both are computed after the update.)
        ema_of (str): Its ``parameters`` (DACS, DAFormer), beside which the teacher's running
            statistics are its own, or the ``state``: parameters and buffers (VFM-UDA).
        teacher_mode (str): ``train``, with dropout and stochastic depth off, where batch
            normalisation uses the target batch (DAFormer; DACS, whose network has neither), or
            ``eval``.
        mirrored (bool): Whether p is the mean over the image and its mirror image (VFM-UDA), which
            takes a second forward pass.
        q_of (str): Whether j runs over the pixels of the ``batch``, on all ranks (DACS's and
            DAFormer's code), or of the ``image`` (DAFormer's paper).
        margins (tuple[int, int]): Rows at the top and at the bottom of the image whose weight is 0;
            15 and 120 of 512 in DAFormer, against the sky's border and the car's hood. They suit
            crops that reach over an image's full height; others take :class:`MarkMargins` in the
            target's pipeline, whose weight is 0, too.
        **kwargs: As in :class:`Term`.
    """

    passes: Tuple[str, ...] = ()
    steps: Tensor
    teacher: Any  # an EncoderDecoder

    def __init__(self,
                 threshold: Ratio = 0.968,
                 alpha: Ratio = 0.99,
                 ema_at: str = 'start',
                 ema_of: str = 'parameters',
                 teacher_mode: str = 'train',
                 mirrored: bool = False,
                 q_of: str = 'batch',
                 margins: Tuple[Natural, Natural] = (0, 0),
                 **kwargs) -> None:
        super().__init__(**kwargs)
        self.threshold = self._within('threshold', threshold)
        self.alpha = self._within('alpha', alpha)
        self.ema_at = self._chosen('ema_at', ema_at, ('start', 'end'))
        self.ema_of = self._chosen('ema_of', ema_of, ('parameters', 'state'))
        self.teacher_mode = self._chosen('teacher_mode', teacher_mode, ('train', 'eval'))
        self.mirrored = mirrored
        self.q_of = self._chosen('q_of', q_of, ('batch', 'image'))
        self.margins = margins
        self.register_buffer('steps', torch.tensor(0))  # averages taken, so that resume is exact

    @property
    def shared(self) -> List[nn.Module]:
        return []  # the teacher does not run in the student's passes

    def setup(self, segmentor: EncoderDecoder) -> None:
        """Make room for the teacher."""
        super().setup(segmentor)
        # Complete but for the terms: see Terms.
        self.teacher = frozen_copy(segmentor)
        self.teacher.auxiliary_head = None
        for key in ('model', 'statistics'):  # which choose of a whole AdaptationSegmentor
            (self.teacher.test_cfg or {}).pop(key, None)

    def train(self, mode: bool = True) -> 'PseudoLabels':
        """Set the mode; the teacher's is ``teacher_mode`` in training."""
        super().train(mode)
        self.teacher.train(mode and self.teacher_mode == 'train')
        for module in self.teacher.modules():
            # mmcv's, timm's and others' stochastic depth have this name in common.
            if isinstance(module, nn.modules.dropout._DropoutNd) or (
                    type(module).__name__ == 'DropPath'):
                module.eval()
        return self

    # mmengine's averaged models give a teacher either the student's buffers at each step or, of
    # tensors that moving to a device leaves behind, their average; and they wait for the device
    # once per parameter.
    def _pairs(self, kind: str) -> Iterator[Tuple[Tensor, Tensor]]:
        """Each of the teacher's ``parameters`` or ``buffers`` with the student's."""
        for name, module in self.teacher.named_children():
            yield from zip(getattr(module, kind)(),
                           getattr(getattr(self.segmentor, name), kind)())

    def prepare(self, batches: Dict[str, Batch]) -> None:
        """Label the target; before the first update, the teacher becomes the student's copy."""
        if not self.steps:
            self._start()
        self.pseudo, weights = self.pseudo_labels(batches['target'])
        batches['target'] = batches['target'].labelled(self.pseudo, weights)

    def _start(self) -> None:
        student = self.segmentor
        if (self.teacher_mode, self.ema_of) == ('eval', 'parameters') and live_norms(
                *(getattr(student, name) for name, _ in self.teacher.named_children())):
            raise InputError("a teacher with teacher_mode='eval' and ema_of='parameters' would "
                             "keep batch normalisation's first running statistics for ever: set "
                             "ema_of='state', or teacher_mode='train'")
        for kind in ('parameters', 'buffers'):
            for averaged, current in self._pairs(kind):
                averaged.copy_(current)
        self.steps.fill_(self.ema_at == 'start')

    @torch.compiler.disable
    @torch.no_grad()
    def after_iter(self) -> None:
        """Average the student's weights."""
        # On the device, which the host need not wait for.
        momentum = (1 / (self.steps.double() + 1)).clamp(min=1 - self.alpha)
        for kind in ('parameters', 'buffers')[:1 + (self.ema_of == 'state')]:
            for averaged, current in self._pairs(kind):
                if averaged.is_floating_point():
                    averaged.lerp_(current, momentum.to(averaged))
                else:
                    averaged.copy_(current)
        self.steps += 1

    def pseudo_labels(self, batch: Batch) -> Tuple[Tensor, Tensor]:
        """Labels and weights of a batch, both (N, H, W)."""
        softmax = self._softmax(batch.inputs)
        if self.mirrored:
            softmax = (softmax + self._softmax(batch.inputs.flip(-1)).flip(-1)) / 2
        probability, labels = softmax.max(dim=1)
        shown = batch.shown
        sure, pixels = (pixel.to(probability).sum(dim=(1, 2)) for pixel in (
            (probability >= self.threshold) & shown, shown))
        if self.q_of == 'batch':
            sure, pixels = sure.sum(), pixels.sum()
            all_reduce(sure)
            all_reduce(pixels)
        q = sure / pixels
        self.confident = q.mean()
        top, bottom = self.margins
        height = labels.shape[1]
        rows = torch.arange(height, device=q.device)
        inside = (rows >= top) & (rows < height - bottom)
        weights = q.view(-1, 1, 1) * inside.view(1, -1, 1).expand_as(probability)
        if batch.trusted is not None:
            weights = weights * batch.trusted
        return labels.where(shown, self.teacher.decode_head.ignore_index), weights

    def _softmax(self, inputs: Tensor) -> Tensor:
        """The teacher's, (N, C, H, W)."""
        logits = single_map(self.teacher(inputs), 'decode_head', self.teacher.decode_head)
        return resize(at_least_float32(logits), inputs.shape[-2:], mode='bilinear',
                      align_corners=self.teacher.align_corners).softmax(dim=1)
