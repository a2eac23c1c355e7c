"""What the terms of an adaptation have in common, and what a pass shows them."""
from copy import copy
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import torch
from mmengine.model import BaseModule
from mmseg.models.utils import resize
from torch import Tensor, nn
from torch.func import functional_call

from structseg_mmseg.errors import InputError

if TYPE_CHECKING:
    from structseg_mmseg.models.segmentors import AdvReconSegmentor


class Term(BaseModule):
    """A part of an adaptation: its networks, its losses, what it does after a step.

    A subclass has its equation on top and overrides what it needs; it is registered in ``MODELS``
    and composed by ``model.terms`` of :class:`AdvReconSegmentor`, under whose key its networks get
    their optimizer (``optim_wrapper.<key>``) and its losses appear in the log
    (``<key>.<name of the loss>``).

    Args:
        num_classes (int): Of the segmentation; the segmentor says it.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.
    """

    #: Terms of one branch add their gradients at E's features; there E gets the mean over branches
    #: (Equation 3). ``seg`` is the segmentation's own.
    branch = 'seg'

    #: Decode heads (``decode_head``, ``auxiliary_head``) whose logits it looks at, so that each
    #: decodes a pass once.
    heads: Tuple[str, ...] = ()

    #: What a step's ``when`` asks for.
    ready = True

    def __init__(self, num_classes: int, init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes

    @property
    def shared(self) -> List[nn.Module]:
        """Its networks that a domain's images pass in that domain's pass, as they pass E.

        Their batch normalisation is treated as E's is.
        """
        return [self]

    def target_loss(self, view: 'View') -> Tuple[Dict[str, Tensor], Any]:
        """Losses on the target's graph, and tensors without a graph for :meth:`source_loss`."""
        return {}, None

    def source_loss(self, view: 'View', kept: Any) -> Dict[str, Tensor]:
        """Losses on the source's graph, in a step where the target has passed before."""
        return {}

    def mix(self, batches: Dict[str, dict]) -> Optional[dict]:
        """A batch to be passed between target and source, from theirs, or None.

        It has normalised ``inputs`` (N, 3, H, W) and, if it is labelled, ``data_samples``.
        """
        return None

    def mixed_loss(self, view: 'View') -> Dict[str, Tensor]:
        """Losses on the graph of the batch that :meth:`mix` made."""
        return {}

    def after_step(self, segmentor: nn.Module) -> None:
        """What is to follow an update of the parameters, e.g. that of an averaged teacher."""


class View:
    """One pass, as terms look at it: nothing is computed before one asks, or twice.

    Args:
        segmentor (AdvReconSegmentor): Whose pass it is.
        domain (str): ``source``, ``target`` or the key of the term that mixed the images.
        inputs (Tensor): Normalised images (N, 3, H, W).
        data_samples (list[SegDataSample], optional): Labels, of the source or of mixed images.
        step (str): Name of the step that the pass belongs to.
        pictures (dict, optional): Where :meth:`show` puts what is to be drawn of this pass.
    """

    def __init__(self, segmentor: 'AdvReconSegmentor', domain: str, inputs: Tensor,
                 data_samples: Optional[list] = None, step: str = '',
                 pictures: Optional[Dict[str, Tensor]] = None) -> None:
        self.domain = domain
        self.inputs = inputs
        self.data_samples = data_samples
        self.step = step
        self.pictures = pictures
        self._segmentor = segmentor
        self._encoded = segmentor.extract_feat(inputs)
        self._features: Dict[str, List[Tensor]] = {}
        self._outputs: Dict[str, Any] = {}

    @property
    def image(self) -> Tensor:
        """The images before they were normalised, (N, 3, H, W) in [0, 255]."""
        preprocessor = self._segmentor.data_preprocessor
        if not preprocessor._enable_normalize:
            return self.inputs
        return self.inputs * preprocessor.std + preprocessor.mean

    def show(self, name: str, picture: Tensor, low: float, high: float) -> None:
        """Offer a picture for the log, which draws some iterations (:class:`PanelHook`).

        Args:
            name (str): Its title.
            picture (Tensor): Images (N, 3, H, W), channels as in ``inputs``, or maps (N, 1, h, w).
            low (float): What is drawn black, or coldest.
            high (float): What is drawn white, or hottest.
        """
        if self.pictures is not None:
            self.pictures[name] = ((picture[0].detach().float() - low) / (high - low)).clamp(0, 1)

    def features(self, branch: str = 'seg') -> List[Tensor]:
        """E's outputs, whose gradients reach E as the branch's share."""
        if branch not in self._features:
            self._features[branch] = self._segmentor.branch(self._encoded, branch)
        return self._features[branch]

    def reversed(self) -> 'View':
        """This pass, anew from its features on, with gradients that E gets with the other sign."""
        view = copy(self)
        view._features = {'seg': [_Reversal.apply(feature) for feature in self.features()]}
        view._outputs = {}
        return view

    def outputs(self, head: str = 'decode_head') -> Any:
        """Whatever a head's ``forward`` gives."""
        if head not in self._outputs:
            self._outputs[head] = getattr(self._segmentor, head).forward(self.features())
        return self._outputs[head]

    def logits(self, head: str = 'decode_head', size: str = 'logits') -> Tensor:
        """A head's logits (N, C, h, w), at their own stride or resized to the ``image``."""
        outputs = self.outputs(head)
        logits, *others = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        if logits.dim() != 4 or any(other.dim() == 4 for other in others):
            kind = type(getattr(self._segmentor, head)).__name__
            raise InputError(
                f'{head} {kind} gives several maps in training, so which of them a term should '
                'look at is open: take such terms out of model.terms, or choose a head with one '
                'map of logits')
        return self.at_image(logits) if size == 'image' else logits

    def at_image(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w) resized to the images as the segmentor resizes logits."""
        return resize(maps, self.inputs.shape[-2:], mode='bilinear',
                      align_corners=self._segmentor.align_corners)


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient has the other sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def frozen(module: nn.Module, x: Tensor) -> Tensor:
    """A module's output, with a gradient for its input but none for its parameters."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    return functional_call(module, parameters, (x,))
