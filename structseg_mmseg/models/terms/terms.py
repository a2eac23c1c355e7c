from typing import Dict, List, Optional

from mmengine.model import ModuleDict
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch

from .term import Term


class Terms(ModuleDict):
    """The terms of a segmentor by their names.

    Args:
        configs (dict[str, dict]): Their configs; None drops one.
        segmentor (EncoderDecoder): Whose terms they are, complete but for them.
    """

    def __init__(self, configs: Dict[str, Optional[dict]], segmentor: EncoderDecoder) -> None:
        super().__init__({
            name: MODELS.build(config, default_args=dict(num_classes=segmentor.out_channels))
            for name, config in configs.items() if config is not None})
        for name, term in self.items():
            if 'loss' in name:  # mmengine sums all that has it in its name
                raise InputError(f"model.terms.{name} has 'loss' in its name, by which the log "
                                 'knows losses: choose another name')
            for head in term.heads:
                if getattr(segmentor, head, None) is None:
                    raise InputError(f'model.terms.{name} requires model.{head}, which is not set')
            term.setup(segmentor)

    @property
    def passes(self) -> List[str]:
        """Names of all passes that a term wants."""
        return list(dict.fromkeys(name for term in self.values() for name in term.passes))

    @property
    def branches(self) -> int:
        """How many branches meet at the encoder, the segmentation's included; 0 without terms."""
        return 0 if not self else len({'seg', *(term.branch for term in self.values())})

    def wanting(self, name: str) -> Dict[str, Term]:
        """The terms that want a pass."""
        return {key: term for key, term in self.items() if name in term.passes}

    def heads(self, name: str) -> List[str]:
        """The decode heads whose outputs terms use in a pass."""
        return [head for term in self.wanting(name).values() for head in term.heads]

    def shared(self, name: str) -> List[nn.Module]:
        """The terms' own modules that run in a pass."""
        return [module for term in self.wanting(name).values() for module in term.shared]

    def prepare(self, batches: Dict[str, Batch]) -> None:
        """Let each term label or add batches, in place."""
        for term in self.values():
            term.prepare(batches)

    def after_iter(self) -> None:
        """Tell each term that an iteration has updated parameters."""
        for term in self.values():
            term.after_iter()
