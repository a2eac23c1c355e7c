"""The page of an ablation, which tools/ablation.py writes: one HTML file that needs no other."""
import base64
import io
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Dict, List

import numpy as np
from matplotlib.figure import Figure

PICTURES = {
    'curves': 'Validation: mIoU over the iterations. Lines are means over the seeds, bands their '
              'standard deviation.',
    'bars': 'Test: IoU by class, of the averaged weights where there are any. Whiskers are the '
            'standard deviation over the seeds.',
    'examples': 'Test: images evenly spread, first seed.',
    'changed': 'Test: the images that changed most from the first model to the last, first seed. '
               'Those that gained stand above, those that lost below.',
}
# An icon of its own keeps a browser from asking for one.
PAGE = Template('''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --page: #fff; --shade: #f3f4f6; --line: #d4d7dc }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --shade: #22262c; --line: #3a4048 }
  img { opacity: .9 }
}
body { max-width: 80rem; margin: 0 auto; padding: 1rem; background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif }
pre { padding: .6rem; background: var(--shade); white-space: pre-wrap; overflow-wrap: anywhere }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap }
thead { background: var(--shade) }
tr > :nth-child(-n+2) { text-align: left }
figure { margin: 2rem 0 }
.wide { overflow-x: auto }
img { display: block; max-width: 100%; background: #fff }
.wide img { min-width: 45rem }
#examples img, #changed img { min-width: 70rem }
#curves img { min-width: 0; width: 40rem }
summary { padding: .3rem 0; cursor: pointer; overflow-wrap: anywhere }
@media (max-width: 40rem) {
  tr > :first-child { min-width: 9rem; white-space: normal; overflow-wrap: anywhere }
}
@media print {
  @page { size: landscape }
  .wide { overflow: visible }
  .wide img { min-width: 0 !important }
  table { font-size: 6pt }
  th, td { padding: .1rem .2rem; white-space: normal }
  figure { break-inside: avoid }
}
</style>
</head>
<body>
<h1>$title</h1>
<p>Written on $when by</p>
<pre>$command</pre>
<div class="wide">
<table>
<thead>$head</thead>
<tbody>
$rows
</tbody>
</table>
</div>
$pictures
<h2>Losses</h2>
$losses
</body>
</html>
''')


def write_report(folder: Path, command: str, table: List[List[str]],
                 losses: Dict[str, Dict[int, Dict[str, float]]]) -> None:
    """Write report.html into an ablation's folder.

    Args:
        folder (Path): It holds the pictures, as far as there are any.
        command (str): What wrote it all.
        table (List[List[str]]): The head's cells, then those of each row.
        losses (Dict[str, Dict[int, Dict[str, float]]]): What each run has logged, by iteration.
    """
    head, *rows = ([escape(cell) for cell in row] for row in table)
    sections = []
    for run, records in losses.items():
        if records:
            picture = image(draw_losses(records), f'Losses of {run} over the iterations')
            sections.append(f'<details><summary>{escape(run)}</summary>\n'
                            f'<div class="wide">{picture}</div></details>')
    (folder / 'report.html').write_text(PAGE.substitute(
        title=escape(f'Ablation {folder.resolve().name}'),
        when=datetime.now().strftime('%Y-%m-%d at %H:%M'),
        command=escape(command),
        head=f'<tr><th>{"</th><th>".join(head)}</th></tr>',
        rows='\n'.join(f'<tr><th scope="row">{name}</th><td>{"</td><td>".join(cells)}</td></tr>'
                       for name, *cells in rows),
        pictures='\n'.join(
            f'<figure id="{name}"><figcaption>{caption}</figcaption>\n<div class="wide">'
            f'{image((folder / f"{name}.png").read_bytes(), caption)}</div></figure>'
            for name, caption in PICTURES.items() if (folder / f'{name}.png').exists()),
        losses='\n'.join(sections) or '<p>No run was as long as the interval of its log.</p>'),
        encoding='utf-8')


def image(png: bytes, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def draw_losses(records: Dict[int, Dict[str, float]]) -> bytes:
    """A PNG picture: axes for each loss, as their sizes differ."""
    names = [name for name in dict.fromkeys(key for record in records.values() for key in record)
             if 'loss' in name]
    columns = 4
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3 * columns, 2 * lines), layout='constrained')
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(lines, columns, place)
        axes.plot(list(records), [record.get(name, np.nan) for record in records.values()])
        axes.set_title(name, fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    return file.getvalue()
