"""What the terms of an adaptation have in common."""
from typing import Dict, List, Optional, Tuple

from mmengine.model import BaseModule
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor, nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch, View


class Term(BaseModule):
    """A part of an adaptation: its networks, its losses, the batches that it prepares.

    A subclass has its equation on top and overrides what it needs; it is registered in ``MODELS``
    and composed by ``model.terms`` of :class:`AdaptationSegmentor`, under whose key its networks
    get their optimizer (``optim_wrapper.<key>``) and its losses appear in the log
    (``<key>.<name of the loss>``).

    Args:
        num_classes (int): Of the segmentation; the segmentor sets it.
        init_cfg (dict, optional): As in :class:`mmengine.model.BaseModule`.

    Attributes:
        segmentor (EncoderDecoder): The student, after :meth:`setup`; not a sub-module.
    """

    #: The passes that it wants a :class:`View` of. A pass that no term wants is not run, but for
    #: the source's, which has the supervised loss.
    passes: Tuple[str, ...] = ('target', 'source')

    #: Whether its losses have gradients; a pass without any is run without a graph.
    trains = True

    #: Terms of one branch add their gradients at the encoder's features, where the encoder gets
    #: the mean over branches (Equation 3). ``seg`` is the segmentation's own.
    branch = 'seg'

    #: Decode heads (``decode_head``, ``auxiliary_head``) whose outputs it uses in its passes.
    heads: Tuple[str, ...] = ()

    #: Whether steps that wait for this term (``when``) are taken.
    ready = True

    segmentor: EncoderDecoder

    def __init__(self, num_classes: int, init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes

    def _chosen(self, key: str, value: str, choices: Tuple[str, ...]) -> str:
        if value not in choices:
            raise InputError(f'{key} of {type(self).__name__} is {value!r}: choose '
                             f'{" or ".join(choices)}')
        return value

    def _within(self, key: str, value: float) -> float:
        if not 0 <= value <= 1:
            raise InputError(f'{key} of {type(self).__name__} is {value!r}: give a number from 0 '
                             'to 1')
        return value

    @property
    def shared(self) -> List[nn.Module]:
        """Sub-modules that run in each of its passes, like the encoder.

        Their BatchNorm layers follow the same policy.
        """
        return [self]

    def setup(self, segmentor: EncoderDecoder) -> None:
        """Meet the segmentor, whose networks are complete but not initialised.

        Here a term makes copies, such as a teacher: before weights are loaded or resumed, and
        before the model is distributed.
        """
        # Not by nn.Module's own way, which would make a sub-module, and so a cycle, of it.
        object.__setattr__(self, 'segmentor', segmentor)

    def prepare(self, batches: Dict[str, Batch]) -> None:
        """Label or add batches, once before the passes of an iteration, without a graph.

        Args:
            batches (dict[str, Batch]): ``source``, ``target`` and what terms before this one have
                added, by the name of the pass; to be changed in place.
        """

    def loss(self, view: View) -> Dict[str, Tensor]:
        """Losses of one of its passes, scalars, and what is logged beside.

        Those with ``loss`` in their names are minimised. Passes that hand something on to later
        ones put it, detached, into ``view.notes``; the source's pass is the last.
        """
        return {}

    def after_iter(self) -> None:
        """What follows an iteration that has updated parameters."""
