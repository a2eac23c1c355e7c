from dataclasses import dataclass
from typing import Iterable, List, Optional, Sequence

from structseg_mmseg.bounds import Count
from structseg_mmseg.errors import InputError


@dataclass(frozen=True)
class Step:
    """Passes and the update that follows them: an entry of ``model.steps``.

    Args:
        name (str): Its name in the log; in a config its place in the list by default.
        passes (Sequence[str], optional): Names of the passes, in the order of the published
            procedure, in which the running statistics of batch normalisation come out; default:
            the source's and all that terms want, the source's first, the target's second. They
            are run in another order, the source's last, which changes nothing else.
        parts (Sequence[str], optional): The optimizers that step, by their keys in
            ``optim_wrapper``; default: all. The gradients of the others are dropped.
        times (int): How often it is taken in an iteration; the last time is logged.
        when (str, optional): A term; the step is skipped unless the term is ``ready``.
    """

    name: str
    passes: Optional[Sequence[str]] = None
    parts: Optional[Sequence[str]] = None
    times: Count = 1
    when: Optional[str] = None

    def check(self, key: str, terms: Sequence[str], passes: Sequence[str]) -> None:
        """Compare its names with what the model has.

        Args:
            key (str): Where it stands in the config.
            terms (Sequence[str]): Names of the terms.
            passes (Sequence[str]): Names of the passes that can be run.

        Raises:
            InputError: If it names a pass or a term that does not exist.
        """
        if self.passes is not None and not (self.passes and {*self.passes} <= {*passes}):
            raise InputError(f'{key}.passes is {list(self.passes)}: choose of those that are run '
                             f'({", ".join(dict.fromkeys(passes))})')
        if self.when is not None and self.when not in terms:
            raise InputError(f'{key}.when is {self.when!r}: choose one of model.terms '
                             f'({", ".join(terms) or "none are set"})')

    def in_order(self, names: Iterable[str]) -> List[str]:
        """Those of some passes that belong to the step, in the published order."""
        places = self.passes or ('source', 'target')
        chosen = [name for name in names if self.passes is None or name in self.passes]
        return sorted(chosen, key=lambda name: [*places, name].index(name))
