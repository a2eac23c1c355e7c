"""Run an ablation: train and evaluate every config with every seed, and tabulate the scores.

    python tools/ablation.py CONFIG [CONFIG ...] --seeds 0 1 2 --work-dir DIR [--jobs N]
        [--cfg-options KEY=VALUE ...]

Gains are relative to the first config, and also given as a share of the gap between it and the
config whose name ends with ``_oracle``, if there is one. A run has the folder
DIR/<config>/seed_<seed>; DIR gets ``table.md``, ``table.csv``, ``curves.png`` and ``bars.png``,
updated after each run, and at the end ``examples.png`` and ``changed.png`` (the images that changed
most), both of the first seed, and ``report.html``, all of it on one page. The same command resumes
an ablation that was interrupted and keeps what is finished: give another DIR for other options.

N runs train at a time (on Linux), each on its share of the cores and, if there are GPUs, on one.
"""
import argparse
import base64
import csv
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from pathlib import Path
from queue import SimpleQueue
from typing import Dict, List, Optional

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config, DictAction

from structseg_mmseg.errors import InputError, one_sentence_errors
from structseg_mmseg.visualization import draw_bars

TOOLS = Path(__file__).parent
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LABEL_FREE = 'agreement'  # the score of LabelFreeMetric that is shown beside mIoU
PICTURES = {
    'curves': 'Validation mIoU during training: mean over the seeds and standard deviation.',
    'bars': 'Test IoU by class, of the averaged weights where there are any: mean over the seeds '
            'and standard deviation.',
    'examples': 'Test images, evenly spread, first seed.',
    'changed': 'Test images that changed most from the first model to the last, first seed: gains '
               'above, losses below.',
}
STYLE = '''body { max-width: 80rem; margin: auto; padding: 1rem; font: 1rem/1.5 sans-serif }
pre { white-space: pre-wrap } div { overflow-x: auto } img { max-width: 100% }
td, th { padding: .2rem .6rem; border-bottom: 1px solid #ccc; text-align: right }'''


@dataclass(frozen=True)
class Run:
    """A config trained with a seed, in a folder of its own."""

    config: Path
    seed: int
    folder: Path
    max_iters: int

    @property
    def checkpoint(self) -> Path:
        return self.folder / f'iter_{self.max_iters}.pth'

    @property
    def results(self) -> Path:
        return self.folder / 'results.json'

    @property
    def finished(self) -> bool:
        return (self.checkpoint.exists() and self.results.exists()
                and self.results.stat().st_mtime_ns > self.checkpoint.stat().st_mtime_ns)

    def logged(self, key: str) -> Dict[int, dict]:
        """Records with a key, by iteration; those of a resumed run replace older ones."""
        records = {}
        for path in sorted(self.folder.glob('*/vis_data/scalars.json')):
            for line in path.read_text().split('\n')[:-1]:  # a complete record ends its line
                record = json.loads(line)
                if key in record:
                    records[record['step']] = record
        return dict(sorted(records.items()))

    @property
    def iterations(self) -> int:
        """Logged iterations."""
        return self.max_iters if self.checkpoint.exists() else max(self.logged('loss'), default=0)

    @property
    def minutes(self) -> float:
        """Training time, from the mean time of an iteration, so repeated ones count once."""
        records = self.logged('loss')
        if not records:  # shorter than the logger's interval
            return float('nan')
        seconds = [record['time'] for record in records.values()]
        return np.average(seconds, weights=np.diff([0, *records])) * self.max_iters / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', type=Path, nargs='+', metavar='config')
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--work-dir', type=Path, required=True, help='folder of the ablation')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='changes to all configs')
    args = parser.parse_args()
    if args.jobs < 1:
        raise InputError(f'--jobs is {args.jobs}: give 1 or more')
    stems = [config.stem for config in args.configs]
    for stem in stems:
        if stems.count(stem) > 1:
            raise InputError(f'{stem}.py is the name of several configs, and of their folders: '
                             'rename all but one')
    options = argparse.ArgumentParser()
    options.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    changes = options.parse_args(['--cfg-options', *args.cfg_options] * bool(args.cfg_options))
    max_iters = {}
    for config in args.configs:
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(changes.cfg_options)
        max_iters[config] = cfg.train_cfg.max_iters
    runs = [Run(config, seed, args.work_dir / config.stem / f'seed_{seed}', max_iters[config])
            for seed in dict.fromkeys(args.seeds) for config in args.configs]
    try:
        failures = run_all(runs, args)
    except KeyboardInterrupt:
        print('\ninterrupted: the same command resumes', file=sys.stderr, flush=True)
        os._exit(130)  # without waiting for the pool's threads; their processes die with this one
    if any(run.finished for run in runs):
        print((args.work_dir / 'table.md').read_text())
    if failures:
        sys.exit('\n'.join(failures))


def run_all(runs: List[Run], args: argparse.Namespace) -> List[str]:
    """Finish the runs, ``args.jobs`` at a time, and return the reasons of those that failed."""
    devices = os.environ.get(
        'CUDA_VISIBLE_DEVICES', ','.join(map(str, range(torch.cuda.device_count())))).split(',')
    slots = SimpleQueue()
    for job in range(args.jobs):
        slots.put(devices[job % len(devices)])
    threads = max(1, len(os.sched_getaffinity(0)) // args.jobs)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []

    def call(log: Path, tool: str, *arguments) -> Optional[str]:
        """Run a tool, its output appended to a log; the reason if it fails."""
        device = slots.get()
        try:
            with log.open('a') as file:
                code = subprocess.run(
                    [sys.executable, TOOLS / tool, *map(str, arguments)], stdout=file, stderr=file,
                    env=dict(os.environ, OMP_NUM_THREADS=str(threads), CUDA_VISIBLE_DEVICES=device),
                    # Not even SIGKILL of this process leaves it behind.
                    preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)).returncode
        finally:
            slots.put(device)
        if code:
            lines = log.read_text(errors='replace').strip().splitlines()
            return f'{log}: {lines[-1] if lines else "no output"} (exit code {code})'

    def finish(run: Run) -> Optional[str]:
        run.folder.mkdir(parents=True, exist_ok=True)
        failure = None
        if not run.checkpoint.exists():
            failure = call(run.folder / 'train.log', 'train.py', run.config, '--work-dir',
                           run.folder, '--resume', '--cfg-options', *args.cfg_options,
                           f'randomness.seed={run.seed}')
        return failure or call(run.folder / 'evaluate.log', 'analysis_tools/evaluate.py',
                               run.config, run.checkpoint, '--json', run.results, *options)

    terminal = sys.stdout.isatty()
    total = sum(run.max_iters for run in runs)
    begin, start = time.monotonic(), sum(run.iterations for run in runs)
    failures = []
    if not all(run.finished for run in runs):
        for name in ('examples', 'changed'):  # to be drawn anew
            args.work_dir.joinpath(f'{name}.png').unlink(missing_ok=True)
    pool = ThreadPoolExecutor(args.jobs)  # not `with`, which would wait after an interrupt
    pending = {pool.submit(finish, run) for run in runs if not run.finished}
    while pending:
        ended, pending = wait(pending, 1 if terminal else 60, FIRST_COMPLETED)
        failures += [future.result() for future in ended]
        if ended:
            summarize(runs, args.work_dir)
        done = sum(run.iterations for run in runs)
        left = 'unknown time'
        if done > start:
            seconds = (time.monotonic() - begin) * (total - done) / (done - start)
            left = timedelta(seconds=round(seconds))
        line = (f'{done}/{total} iterations, {sum(run.finished for run in runs)}/{len(runs)} '
                f'runs, {left} left')
        print(f'\r{line:<79}' if terminal else line, end='' if terminal else '\n', flush=True)
    print()
    finished = [run for run in runs if run.finished]
    folders = [run.folder for run in finished if run.seed == runs[0].seed]
    # An oracle comes last only if nothing else can: its gain is no method's.
    changed = sorted(folders[1:], key=lambda path: not path.parent.name.endswith('_oracle'))
    for name, chosen in (('examples', folders),
                         ('changed', changed and [folders[0], *changed, '--changed'])):
        path = args.work_dir / f'{name}.png'
        if chosen and not path.exists():
            failures.append(call(args.work_dir / f'{name}.log', 'analysis_tools/compare.py',
                                 *chosen, '--samples', 4, '--picture', path))
    if finished:
        write_page(args.work_dir, shlex.join(['python', *sys.argv]), summarize(runs, args.work_dir))
    return [failure for failure in failures if failure is not None]


def summarize(runs: List[Run], folder: Path) -> List[List[str]]:
    """Write tables, curves and bars of the finished runs, and return the rows of ``table.md``."""
    groups = {run.config.stem: [] for run in runs}
    for run in runs:
        if run.finished:
            groups[run.config.stem].append(run)
    groups = {stem: group for stem, group in groups.items() if group}
    scores = {}  # {(config, variant): {seed: {'test mIoU': percent}}}
    for stem, group in groups.items():
        for run in group:
            for variant, splits in json.loads(run.results.read_text()).items():
                scores.setdefault((stem, variant), {})[run.seed] = {
                    f'{split} {metric}': value for split, metrics in splits.items()
                    for metric, value in metrics.items()}
    if not scores:
        return []
    columns = list(dict.fromkeys(
        column for seeds in scores.values() for row in seeds.values() for column in row))
    values = {key: np.array([[row.get(column, np.nan) for column in columns]
                             for row in seeds.values()]) for key, seeds in scores.items()}
    means = {key: array.mean(axis=0) for key, array in values.items()}
    stds = {key: array.std(axis=0, ddof=1) if len(array) > 1 else np.full(len(columns), np.nan)
            for key, array in values.items()}

    with (folder / 'table.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['config', 'variant', 'seed', *columns])
        for key, seeds in scores.items():
            writer.writerows([*key, seed, *row] for seed, row in zip(seeds, values[key]))
            for name, row in (('mean', means[key]), ('std', stds[key])):
                writer.writerow([*key, name, *(f'{value:.4f}' for value in row)])

    splits = [index for index, column in enumerate(columns)
              if column.endswith((' mIoU', f' {LABEL_FREE}'))]
    classes = {column.removeprefix('test IoU.'): index for index, column in enumerate(columns)
               if column.startswith('test IoU.')}
    test = columns.index('test mIoU')
    missing = np.full(len(columns), np.nan)
    first = runs[0].config.stem
    oracle = next((stem for stem in groups if stem.endswith('_oracle')), None)
    rows = [['config', 'variant', 'seeds', *(columns[index] for index in splits), 'gain',
             *(['of the gap'] if oracle else []), *classes, 'minutes']]
    for (stem, variant), mean in means.items():
        number = len(scores[stem, variant])
        gain, gap = (array[test] - means.get((first, variant), missing)[test]
                     for array in (mean, means.get((oracle, variant), missing)))
        rows.append([
            stem, variant, str(number),
            *(f'{mean[index]:.1f}' + (f' ± {stds[stem, variant][index]:.1f}' if number > 1 else '')
              for index in splits),
            f'{gain:+.1f}',
            # Adding 0 makes -0 a 0.
            *([f'{gain / gap + 0:.0%}' if gap else ''] if oracle else []),
            *(f'{mean[index]:.1f}' for index in classes.values()),
            f'{np.mean([run.minutes for run in groups[stem]]):.1f}'])
    rows = [['' if cell in ('nan', '+nan', 'nan%') else cell for cell in row] for row in rows]
    lines = [rows[0], ['---'] * 3 + ['---:'] * (len(rows[0]) - 3), *rows[1:]]
    (folder / 'table.md').write_text(''.join(f'| {" | ".join(line)} |\n' for line in lines))

    draw_curves(groups, folder / 'curves.png')
    keys = {stem: (stem, 'averaged' if (stem, 'averaged') in scores else 'last') for stem in groups}
    indices = list(classes.values())
    draw_bars(list(classes), {stem: (means[key][indices], stds[key][indices])
                              for stem, key in keys.items()}, folder / 'bars.png')
    return rows


def draw_curves(groups: Dict[str, List[Run]], path: Path) -> None:
    """Draw validation mIoU against iterations: mean over the seeds and standard deviation."""
    axes = Figure(layout='constrained').subplots()
    for stem, group in groups.items():
        curves = [run.logged('mIoU') for run in group]
        steps = sorted(set(curves[0]).intersection(*curves))
        values = np.array([[curve[step]['mIoU'] for step in steps] for curve in curves])
        mean = values.mean(axis=0)
        axes.plot(steps, mean, marker='.', label=stem)
        if len(group) > 1:
            std = values.std(axis=0, ddof=1)
            axes.fill_between(steps, mean - std, mean + std, alpha=0.2)
    axes.set(xlabel='iteration', ylabel='mIoU in validation, percent')
    axes.figure.legend(loc='outside lower center')
    axes.figure.savefig(path, dpi=150)


def write_page(folder: Path, command: str, rows: List[List[str]]) -> None:
    """Write ``report.html``, the table and the pictures of a folder on a page of its own."""
    title = escape(f'Ablation {folder.resolve().name}')
    parts = ['<!DOCTYPE html>', '<html lang="en">', '<meta charset="utf-8">',
             f'<title>{title}</title>', f'<style>{STYLE}</style>', f'<h1>{title}</h1>',
             f'<pre>{escape(command)}</pre>', '<div><table>']
    parts += [f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>' for row in rows]
    parts.append('</table></div>')
    for name, caption in PICTURES.items():
        if (folder / f'{name}.png').exists():
            data = base64.b64encode((folder / f'{name}.png').read_bytes()).decode()
            parts.append(f'<h2>{caption}</h2>\n'
                         f'<img alt="{caption}" src="data:image/png;base64,{data}">')
    (folder / 'report.html').write_text('\n'.join([*parts, '</html>']), encoding='utf-8')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
