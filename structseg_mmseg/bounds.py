"""Bounds of numeric arguments, for annotations; ``engine/config_check.py`` reads them."""
import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Within:
    """The smallest and the largest value."""

    low: float
    high: float = math.inf

    def __repr__(self) -> str:
        return f'from {self.low} ' + (f'to {self.high}' if math.isfinite(self.high) else 'upwards')


Count = Annotated[int, Within(1)]
Natural = Annotated[int, Within(0)]
Percent = Annotated[float, Within(0, 100)]
Ratio = Annotated[float, Within(0, 1)]
Weight = Annotated[float, Within(0)]
