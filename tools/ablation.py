"""Run an ablation: train and evaluate every config with every seed, and tabulate what comes out.

    python tools/ablation.py CONFIG [CONFIG ...] --seeds 0 1 2 --work-dir DIR [--jobs N]
        [--cfg-options KEY=VALUE ...]

Gains are counted from the first config, and as a share of the gap between it and the config whose
name ends with ``_oracle``, if there is one. A run has the folder DIR/<config>/seed_<seed>; DIR gets
``table.md``, ``table.csv``, ``curves.png`` and ``bars.png``, anew after each run. At the end come
``examples.png`` and ``changed.png``, the images that changed most, both of the first seed, and the
page ``report.html`` with all of it. The same command again finishes what was interrupted, in
whatever way, and keeps what is finished: give another DIR for other options.

N runs go on at a time (on Linux), each on its share of the cores and, if there are GPUs, on one.
"""
import argparse
import asyncio
import csv
import ctypes
import json
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import torch
from analysis_tools.compare import draw_bars
from analysis_tools.report import write_report
from matplotlib.figure import Figure
from mmengine.config import Config, DictAction

from structseg_mmseg.errors import InputError, one_sentence_errors

TOOLS = Path(__file__).parent
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# {(config, variant): {seed: {'test mIoU': percent}}}
Scores = Dict[tuple, Dict[int, Dict[str, float]]]


class CfgOptions(DictAction):
    """As a dict for this process, and beside it as text for its children."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.cfg_options_text = [*namespace.cfg_options_text, *values]
        super().__call__(parser, namespace, values, option_string)


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
        """The records that hold a key, by iteration; those of a resumed run replace older ones."""
        records = {}
        for path in sorted(self.folder.glob('*/vis_data/scalars.json')):
            for line in path.read_text().split('\n')[:-1]:  # a record ends with its line
                record = json.loads(line)
                if key in record:
                    records[record['step']] = record
        return dict(sorted(records.items()))

    @property
    def iterations(self) -> int:
        """How many are done, as far as they are logged."""
        return self.max_iters if self.checkpoint.exists() else max(self.logged('loss'), default=0)

    @property
    def minutes(self) -> float:
        """Of training: iterations times their mean time, so nothing counts that was repeated."""
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
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, default={},
                        help='changes to all configs')
    parser.set_defaults(cfg_options_text=[])
    args = parser.parse_args()
    if args.jobs < 1:
        raise InputError(f'--jobs is {args.jobs}: give 1 or more')
    stems = [config.stem for config in args.configs]
    for stem in stems:
        if stems.count(stem) > 1:
            raise InputError(f'{stem}.py is the name of several configs, and of their folders: '
                             'rename all but one')
    max_iters = {}
    for config in args.configs:
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(args.cfg_options)
        max_iters[config] = cfg.train_cfg.max_iters
    runs = [Run(config, seed, args.work_dir / config.stem / f'seed_{seed}', max_iters[config])
            for seed in dict.fromkeys(args.seeds) for config in args.configs]
    try:
        failures = asyncio.run(run_all(runs, args))
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: the same command goes on')
    print((args.work_dir / 'table.md').read_text() if any(run.finished for run in runs) else '')
    if failures:
        sys.exit('\n'.join(failures))


async def run_all(runs: List[Run], args: argparse.Namespace) -> List[str]:
    """Finish the runs, ``args.jobs`` at a time, and say which failed and why."""
    slots = asyncio.Queue()
    for slot in range(args.jobs):
        slots.put_nowait(slot)

    async def finish(run: Run) -> Optional[str]:
        slot = await slots.get()
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            failure = None
            if not run.checkpoint.exists():
                # At the start, --resume would take a config's load_from for a run to go on with.
                resume = ['--resume'] if (run.folder / 'last_checkpoint').exists() else []
                failure = await call(
                    args.jobs, slot, run.folder / 'train.log', TOOLS / 'train.py', run.config,
                    '--work-dir', run.folder, *resume, '--cfg-options',
                    *args.cfg_options_text, f'randomness.seed={run.seed}')
            if failure is None:
                options = ['--cfg-options', *args.cfg_options_text] if args.cfg_options else []
                failure = await call(
                    args.jobs, slot, run.folder / 'evaluate.log',
                    TOOLS / 'analysis_tools/evaluate.py', run.config, run.checkpoint, '--json',
                    run.results, *options)
            if failure is None:
                summarize(runs, args.work_dir)
            return failure
        finally:
            slots.put_nowait(slot)

    progress = asyncio.create_task(show_progress(runs))
    failures = await asyncio.gather(*(finish(run) for run in runs if not run.finished))
    progress.cancel()
    print()
    done = [run for run in runs if run.finished]
    if done:
        rows = summarize(runs, args.work_dir)
        folders = [run.folder for run in done if run.seed == runs[0].seed]
        pictures = dict(examples=folders) if folders else {}
        if len(folders) > 1:
            # An oracle is the last only where nothing else is: its gain is no method's.
            changed = sorted(folders[1:],
                             key=lambda folder: not folder.parent.name.endswith('_oracle'))
            pictures['changed'] = [folders[0], *changed, '--changed', '--samples', 4]
        newest = max(run.results.stat().st_mtime_ns for run in done)
        for name, options in pictures.items():
            path = args.work_dir / f'{name}.png'
            if not path.exists() or path.stat().st_mtime_ns < newest:
                failures.append(await call(
                    1, 0, args.work_dir / f'{name}.log', TOOLS / 'analysis_tools/compare.py',
                    *options, '--picture', path))
        write_report(args.work_dir, shlex.join(['python', *sys.argv]), rows, {
            f'{run.config.stem}, seed {run.seed}': run.logged('loss') for run in done})
    return [failure for failure in failures if failure is not None]


async def call(jobs: int, slot: int, log: Path, *command) -> Optional[str]:
    """Run a tool, its output behind what the log holds; what went wrong if it fails."""
    devices = os.environ.get(
        'CUDA_VISIBLE_DEVICES', ','.join(map(str, range(torch.cuda.device_count())))).split(',')
    environment = dict(
        os.environ, OMP_NUM_THREADS=str(max(1, len(os.sched_getaffinity(0)) // jobs)),
        CUDA_VISIBLE_DEVICES=devices[slot % len(devices)])
    with log.open('a') as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *map(str, command), stdout=file, stderr=file, env=environment,
            # No death of this process, not even by SIGKILL, leaves it behind.
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        code = await process.wait()
    if code:
        lines = log.read_text(errors='replace').strip().splitlines()
        return f'{log}: {lines[-1] if lines else "no output"} (exit code {code})'


async def show_progress(runs: List[Run]) -> None:
    """One line, in its place on a terminal, or now and then."""
    terminal = sys.stdout.isatty()
    total = sum(run.max_iters for run in runs)
    begin, start = time.monotonic(), sum(run.iterations for run in runs)
    while True:
        done = sum(run.iterations for run in runs)
        left = 'time left unknown'
        if done > start:
            seconds = (time.monotonic() - begin) * (total - done) / (done - start)
            left = f'{timedelta(seconds=round(seconds))} left'
        line = (f'{done}/{total} iterations, {sum(run.finished for run in runs)}/{len(runs)} runs, '
                f'{left}')
        print(f'\r{line:<79}' if terminal else line, end='' if terminal else '\n', flush=True)
        await asyncio.sleep(1 if terminal else 30)


def summarize(runs: List[Run], folder: Path) -> List[List[str]]:
    """Write tables, curves and bars of the runs that are finished, and return the table's rows."""
    groups = {}  # in the order of the configs, whichever was the first to finish
    for run in runs:
        groups.setdefault(run.config.stem, [])
        if run.finished:
            groups[run.config.stem].append(run)
    groups = {stem: group for stem, group in groups.items() if group}
    scores: Scores = {}
    for stem, group in groups.items():
        for run in group:
            for variant, splits in json.loads(run.results.read_text()).items():
                scores.setdefault((stem, variant), {})[run.seed] = {
                    f'{split} {metric}': value for split, metrics in splits.items()
                    for metric, value in metrics.items()
                    if metric == 'mIoU' or metric.startswith('IoU.')}
    minutes = {stem: np.mean([run.minutes for run in group]) for stem, group in groups.items()}
    write_csv(scores, folder / 'table.csv')
    rows = tabulate(scores, minutes, runs[0].config.stem)
    (folder / 'table.md').write_text(markdown(rows))
    draw_curves(groups, folder / 'curves.png')
    classes = [column for column in columns_of(scores) if column.startswith('test IoU.')]
    bars = {}
    for stem in groups:
        seeds = scores.get((stem, 'averaged'), scores[stem, 'last'])
        bars[stem] = tuple(zip(*(over_seeds(seeds, column) for column in classes)))
    draw_bars([column.removeprefix('test IoU.') for column in classes], bars, folder / 'bars.png')
    return rows


def columns_of(scores: Scores) -> List[str]:
    return list(dict.fromkeys(
        column for seeds in scores.values() for row in seeds.values() for column in row))


def over_seeds(seeds: Dict[int, Dict[str, float]], column: str) -> tuple:
    """Mean and sample standard deviation, nan for a single seed."""
    values = [row.get(column, np.nan) for row in seeds.values()]
    return np.mean(values), np.std(values, ddof=1) if len(values) > 1 else np.nan


def write_csv(scores: Scores, path: Path) -> None:
    """A row for each config, variant and seed, and for their mean and standard deviation."""
    columns = columns_of(scores)
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['config', 'variant', 'seed', *columns])
        for key, seeds in scores.items():
            for seed, row in seeds.items():
                writer.writerow([*key, seed, *(row.get(column, np.nan) for column in columns)])
            statistics = zip(*(over_seeds(seeds, column) for column in columns))
            for name, values in zip(('mean', 'std'), statistics):
                writer.writerow([*key, name, *(f'{value:.4f}' for value in values)])


def tabulate(scores: Scores, minutes: Dict[str, float], first: str) -> List[List[str]]:
    """A head, and a row for each config and variant: means over the seeds."""
    columns = columns_of(scores)
    splits = [column for column in columns if column.endswith(' mIoU')]
    classes = [column for column in columns if column.startswith('test IoU.')]
    oracle = next((stem for stem, _ in scores if stem.endswith('_oracle')), None)
    rows = [['config', 'variant', 'seeds', *splits, 'gain', *(['of the gap'] if oracle else []),
             *(column.removeprefix('test IoU.') for column in classes), 'minutes']]
    for (stem, variant), seeds in scores.items():
        row = [stem, variant, str(len(seeds))]
        for column in splits:
            mean, std = over_seeds(seeds, column)
            row.append(f'{mean:.1f}' + (f' ± {std:.1f}' if len(seeds) > 1 else ''))
        test, low, high = (over_seeds(scores.get((name, variant), {0: {}}), 'test mIoU')[0]
                           for name in (stem, first, oracle))
        row.append(f'{test - low:+.1f}')
        if oracle:
            # Adding 0 makes -0 a 0.
            row.append(f'{(test - low) / (high - low) + 0:.0%}' if high != low else '')
        row += [f'{over_seeds(seeds, column)[0]:.1f}' for column in classes]
        row.append(f'{minutes[stem]:.1f}')
        rows.append(['' if cell in ('nan', '+nan', 'nan%') else cell for cell in row])
    return rows


def markdown(rows: List[List[str]]) -> str:
    lines = [rows[0], ['---'] * 3 + ['---:'] * (len(rows[0]) - 3), *rows[1:]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'


def draw_curves(groups: Dict[str, List[Run]], path: Path) -> None:
    """Validation mIoU over the iterations: mean over the seeds, in a band of one deviation."""
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
    axes.figure.legend(loc='outside lower center')  # over no curve
    axes.figure.savefig(path, dpi=150)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
