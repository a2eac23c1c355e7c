"""Single passes of a model, and views of passes that give terms what a test chooses."""
from typing import Any, Dict, Optional, Sequence

from torch import Tensor, nn

from structseg_mmseg.models.adaptation import Batch, Branches, Pass


def run_pass(model: nn.Module, name: str, inputs: Tensor, data_samples: Sequence = (),
             notes: Optional[Dict[str, dict]] = None) -> Pass:
    """A pass of a model, forward only; its losses and notes are in it."""
    one = Pass(name, Batch(inputs, list(data_samples)), Branches(model.terms.branches),
               {key: dict((notes or {}).get(key, {})) for key in model.terms})
    model(one, mode='pass')
    return one


class Seen:
    """A pass that gives what it was given."""

    def __init__(self, logits: Any, features: Any = None, name: str = 'target',
                 notes: Optional[dict] = None) -> None:
        self.name = name
        self.notes = {} if notes is None else notes
        self._logits, self._features = logits, features

    def logits(self, head: str = 'decode_head', size: str = 'logits') -> Tensor:
        return self._logits if isinstance(self._logits, Tensor) else self._logits[head, size]

    def features(self, branch: str = 'seg') -> Any:
        return self._features

    def at_image(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=-1)

    def show(self, name: str, picture: Tensor, low: float, high: float) -> None:
        assert picture.dim() == 4 and low < high
