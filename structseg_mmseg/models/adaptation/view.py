from contextlib import nullcontext
from copy import copy
from typing import Any, Dict, Iterator, List, Tuple

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from torch import Tensor, nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.data_preprocessor import denormalize
from structseg_mmseg.models.decode_heads.hrda_head import Detail

from .batch_statistics import kept_statistics
from .gradients import reverse_gradient
from .passes import Pass


class View:
    """What terms see of one pass: the encoder has run, each head runs once, on first use.

    Args:
        segmentor (EncoderDecoder): The model whose pass it is.
        one (Pass): The pass.

    Attributes:
        name (str): Name of the pass: ``source``, ``target`` or what a term has added.
        batch (Batch): Its images and labels.
        notes (dict): The term's own, for later passes of the same step; without a graph.
    """

    notes: Dict[str, Any]

    def __init__(self, segmentor: EncoderDecoder, one: Pass) -> None:
        self.name = one.name
        self.batch = one.batch
        self.notes = {}
        self._pictures = one.pictures
        self._branches = one.branches
        self._segmentor = segmentor
        hidden = one.batch.hidden
        with nullcontext() if hidden is None else segmentor.backbone.hiding(hidden):
            self._encoded = segmentor.extract_feat(one.batch.inputs)
        self._features: Dict[str, List[Tensor]] = {}
        self._outputs: Dict[str, Any] = {}
        self._run: set = set()  # heads that have run, here or in a reversed view

    @property
    def inputs(self) -> Tensor:
        """The normalised images, (N, 3, H, W)."""
        return self.batch.inputs

    @property
    def image(self) -> Tensor:
        """The images before they were normalised, (N, 3, H, W) in [0, 255]."""
        return denormalize(self._segmentor.data_preprocessor, self.inputs)

    def features(self, branch: str = 'seg') -> List[Tensor]:
        """The encoder's outputs, whose gradients reach it as the branch's share."""
        if branch not in self._features:
            self._features[branch] = self._branches.split(self._encoded, branch)
        return self._features[branch]

    def reversed(self) -> 'View':
        """This pass, anew from its features on, whose gradients reach the encoder reversed."""
        view = copy(self)
        view._features = {'seg': [reverse_gradient(feature) for feature in self.features()]}
        view._outputs = {}
        return view

    def outputs(self, head: str = 'decode_head') -> Any:
        """Whatever a head's ``forward`` gives."""
        if head not in self._outputs:
            module = getattr(self._segmentor, head)
            # A head that has seen these images in a reversed view counts them once.
            with kept_statistics(module) if head in self._run else nullcontext():
                self._outputs[head] = module.forward(self.features())
            self._run.add(head)
        return self._outputs[head]

    def has_run(self, head: str) -> bool:
        """Whether a head has run in this pass."""
        return head in self._run

    def logits(self, head: str = 'decode_head', size: str = 'logits') -> Tensor:
        """A head's logits (N, C, h, w), at their own stride or resized to the ``image``.

        They are at least float32, as CUDA's autocast has the losses that follow.
        """
        logits = single_map(self.outputs(head), head, getattr(self._segmentor, head))
        logits = at_least_float32(logits)
        return self.at_image(logits) if size == 'image' else logits

    def parts(self, head: str = 'decode_head') -> Iterator[Tuple[float, Tensor, Tensor, Tensor]]:
        """What the loss of a labelled, weighted batch is of: the image, and a window if it has one.

        Yields:
            tuple: A share of the loss, logits (N, C, H, W), labels and weights (N, H, W).
        """
        labels, weights = self.batch.labels, self.batch.weights
        assert labels is not None and weights is not None
        logits, outputs = self.logits(head, size='image'), self.outputs(head)
        detail = outputs[-1]
        if not isinstance(detail, Detail):
            yield 1., logits, labels, weights
            return
        yield 1 - detail.share, logits, labels, weights
        labels, weights = (detail.crop(maps, outputs[0].shape[2:]) for maps in (labels, weights))
        yield detail.share, resize(
            at_least_float32(detail.logits), labels.shape[1:], mode='bilinear',
            align_corners=self._segmentor.align_corners), labels, weights

    def at_image(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w) resized to the images as the segmentor resizes logits."""
        return resize(maps, self.inputs.shape[-2:], mode='bilinear',
                      align_corners=self._segmentor.align_corners)

    @torch.compiler.disable  # counts labels on the host
    def supervised_loss(self, head: str = 'decode_head') -> Dict[str, Tensor]:
        """A head's own losses for the labels of the batch, pixels counting by its weights.

        The weights take the way of mmseg's pixel samplers, so they reach the losses of
        ``loss_decode`` that take pixel weights, such as ``CrossEntropyLoss``.
        """
        module = getattr(self._segmentor, head)
        outputs = self.outputs(head)
        if self.batch.weights is None:
            return module.loss_by_feat(outputs, self.batch.data_samples)
        sampler = module.sampler
        module.sampler = _Weighted(sampler, self.batch.weights)
        try:
            return module.loss_by_feat(outputs, self.batch.data_samples)
        finally:
            module.sampler = sampler

    @property
    def drawn(self) -> bool:
        """Whether the pass is to be drawn, and the head gives logits."""
        return self._pictures is not None and isinstance(self._segmentor.decode_head,
                                                         BaseDecodeHead)

    def show(self, name: str, picture: Tensor, low: float, high: float) -> None:
        """Offer a picture for the log, which draws some iterations (:class:`PanelHook`).

        Args:
            name (str): Its title.
            picture (Tensor): Images (N, 3, H, W), channels as in ``inputs``, or maps (N, 1, h, w).
            low (float): What is drawn black, or coldest.
            high (float): What is drawn white, or hottest.
        """
        if self._pictures is not None:
            self._pictures[name] = ((picture[0].detach().float() - low) / (high - low)).clamp(0, 1)

    def show_labels(self, name: str, labels: Tensor) -> None:
        """Offer class indices (N, H, W) likewise, which are drawn in the colours of the classes."""
        if self._pictures is not None:
            self._pictures[name] = labels[0]

    @torch.compiler.disable
    def draw(self) -> None:
        """Put the first image, its logits (C, H, W) and, if it has one, its label (H, W)."""
        assert self._pictures is not None  # see drawn
        # Logits that no loss needed are made here, from a copy of the random generator: a run that
        # is drawn is the same run.
        devices = [self.inputs.device] if self.inputs.is_cuda else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            outputs = self.outputs()
            logits = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
            self._pictures['logits'] = self.at_image(logits[:1])[0].detach()
        self.show('image', self.image, 0, 255)
        labels = self.batch.labels
        if labels is not None:
            # A term's labels are no truth.
            self.show_labels('truth' if self.name == 'source' else 'label', labels)


class _Weighted:
    """A pixel sampler that gives the weights of a batch, times those of the head's own sampler."""

    def __init__(self, sampler: Any, weights: Tensor) -> None:
        self.sampler = sampler
        self.weights = weights

    def sample(self, seg_logit: Tensor, seg_label: Tensor) -> Tensor:
        """Weights (N, H, W)."""
        if self.sampler is None:
            return self.weights
        return self.weights * self.sampler.sample(seg_logit, seg_label)


def single_map(outputs: Any, head: str, module: nn.Module) -> Tensor:
    """The logits (N, C, h, w) among a head's outputs, beside which it may have others, no maps."""
    logits, *others = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    if logits.dim() != 4 or any(isinstance(other, Tensor) and other.dim() == 4
                                for other in others):
        raise InputError(
            f'{head} {type(module).__name__} returns several maps in training, so terms do not '
            'know which to use: remove such terms from model.terms, or choose a head with one map '
            'of logits')
    return logits


def at_least_float32(x: Tensor) -> Tensor:
    """A half-precision tensor as float32; others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
