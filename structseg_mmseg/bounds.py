"""What numbers an argument may be, for annotations; ``engine/config_check.py`` reads them."""
import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Within:
    """The least and the largest value."""

    low: float
    high: float = math.inf


Count = Annotated[int, Within(1)]
Natural = Annotated[int, Within(0)]
Percent = Annotated[float, Within(0, 100)]
Ratio = Annotated[float, Within(0, 1)]
Weight = Annotated[float, Within(0)]
