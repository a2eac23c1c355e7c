from dataclasses import dataclass
from typing import Literal, Optional, Sequence

from structseg_mmseg.bounds import Count


@dataclass(frozen=True)
class Step:
    """Passes and the update that follows them: an entry of ``model.steps``.

    Args:
        name (str): What terms and the log call it; in a config its place in the list by default.
        passes (Sequence[str]): Of ``target`` and ``source``; the target's comes first.
        parts (Sequence[str], optional): The optimizers that step, by their keys in
            ``optim_wrapper``; all if None. The gradients of the others are dropped.
        times (int): How often it is taken in an iteration.
        when (str, optional): A term that is asked each time whether it is ``ready``.
    """

    name: str
    passes: Sequence[Literal['target', 'source']] = ('target', 'source')
    parts: Optional[Sequence[str]] = None
    times: Count = 1
    when: Optional[str] = None
