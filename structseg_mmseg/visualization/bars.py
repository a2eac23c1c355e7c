from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure


def draw_bars(classes: List[str],
              bars: Dict[str, Tuple[Sequence[float], Optional[Sequence[float]]]],
              path: Path) -> None:
    """Draw a group of bars per class, a bar per model.

    Args:
        classes (list[str]): Names of the groups.
        bars (dict[str, tuple]): For each model its IoU of each class, in percent, and their
            standard deviations (NaN draws none), or None.
        path (Path): Picture to write.
    """
    figure = Figure(figsize=(2 + 0.12 * len(classes) * (len(bars) + 2), 4), layout='constrained')
    axes = figure.subplots()
    width = 0.8 / len(bars)
    for number, (name, (values, deviations)) in enumerate(bars.items()):
        axes.bar(np.arange(len(classes)) + (number + 0.5) * width - 0.4, values, width,
                 yerr=deviations, label=name, error_kw=dict(elinewidth=0.8))
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha='right')
    axes.set(ylabel='IoU, percent', ylim=(0, 100))
    axes.margins(x=0.01)
    figure.legend(loc='outside lower center', ncols=max(1, int(figure.get_figwidth() // 4)))
    figure.savefig(path, dpi=150)
