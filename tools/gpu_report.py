"""Test and time a config on a GPU, and report it on one page.

    python tools/gpu_report.py --out DIR [--config CONFIG] [--source WxH] [--target WxH]
        [--repeats N] [--stages NAME ...]

Stages run one after the other, each in a process of its own with a time limit; together they take
less than nine minutes. A stage that succeeds appends a line to DIR/results.jsonl and is skipped
from then on, so an interrupted report goes on with the same command. DIR/report.md is the page.

* environment: versions and devices;
* tests: those marked ``gpu``;
* float32, CONFIG as it stands, and others: an iteration of CONFIG by benchmark_step.py.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

from structseg_mmseg.errors import InputError, one_sentence_errors

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ('import json; from mmengine.utils.dl_utils import collect_env; '
               'from structseg_mmseg.engine.hooks.summary_hook import stack; '
               'print(json.dumps(dict(stack=stack(), **collect_env()), default=str))')
AMP = 'optim_wrapper.type=AmpOptimWrapper'
BF16 = (AMP, 'optim_wrapper.dtype=bfloat16')
# Seconds at most; TF32 also for matrix products, torch's default being convolutions alone; changes
# to the config.
VARIANTS = {
    'float32': (70, False, ()),
    'tf32': (50, True, ()),
    'bf16': (50, False, (*BF16, 'model.channels_last=False')),
    'bf16+channels_last': (50, False, (*BF16, 'model.channels_last=True')),
    'bf16+channels_last+compile': (110, False, (*BF16, 'model.channels_last=True', 'compile=True')),
    'fp16': (50, False, (AMP, 'optim_wrapper.dtype=float16', 'model.channels_last=True')),
}
LIMITS = dict(environment=30, tests=120, **{name: limit for name, (limit, *_) in VARIANTS.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument('--config', type=Path,
                        default=ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py')
    parser.add_argument('--source', help="WxH of the source images (default: CONFIG's)")
    parser.add_argument('--target', help="WxH of the target images (default: CONFIG's)")
    parser.add_argument('--repeats', type=int, default=9, help='timings (default: %(default)s)')
    parser.add_argument('--stages', nargs='+', choices=LIMITS, default=list(LIMITS),
                        metavar='NAME', help=f'some of: {", ".join(LIMITS)} (default: all)')
    args = parser.parse_args()
    if not args.config.is_file():
        raise InputError(f'there is no {args.config}: give the path of a config')
    args.out, args.config = args.out.resolve(), args.config.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / 'results.jsonl'
    results.touch()
    done = {record['stage']: record for record in map(json.loads, results.open())}
    failed = {}
    for stage in args.stages:
        if stage in done:
            continue
        begin = time.monotonic()
        failed[stage] = execute(command_of(stage, args), args.out / f'{stage}.log', LIMITS[stage])
        seconds = time.monotonic() - begin
        print(f'{stage}: {failed[stage] or "done"} in {seconds:.0f} s', flush=True)
        if failed[stage] is None:
            done[stage] = dict(stage=stage, stage_seconds=seconds, **figures(stage, args.out))
            with results.open('a') as file:
                file.write(json.dumps(done[stage]) + '\n')
    failed = {stage: reason for stage, reason in failed.items() if reason is not None}
    (args.out / 'report.md').write_text('\n\n'.join(page(args, done, failed)) + '\n')
    if failed:
        sys.exit(f'not done: {", ".join(failed)}')


def command_of(stage, args):
    if stage == 'environment':
        return ['-c', ENVIRONMENT]
    if stage == 'tests':
        return ['-m', 'pytest', '-q', '-m', 'gpu', '--junitxml', args.out / 'tests.xml']
    _, tf32, changes = VARIANTS[stage]
    command = ['tools/analysis_tools/benchmark_step.py', args.config, '--repeats', args.repeats,
               '--json', args.out / f'{stage}.json']
    command += [f'--{name}={size}' for name, size in (
        ('source', args.source), ('target', args.target)) if size]
    command += ['--tf32'] if tf32 else []
    return command + (['--cfg-options', *changes] if changes else [])


def execute(command, log, limit):
    """Run Python with a command line, and return the reason if it fails."""
    with log.open('w') as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, stdout=file, stderr=file,
            start_new_session=True)  # to end it with all that it starts
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f'stopped after {limit} s'
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return f'exit status {code}' if code else None


def figures(stage, out):
    if stage == 'environment':
        return json.loads((out / 'environment.log').read_text().splitlines()[-1])
    if stage == 'tests':
        suite = ElementTree.parse(out / 'tests.xml').getroot().find('testsuite')
        return {key: int(suite.get(key)) for key in ('tests', 'skipped', 'failures', 'errors')}
    return json.loads((out / f'{stage}.json').read_text())


def page(args, done, failed):
    """The report's sections."""
    yield f'# {args.config.stem}: report of a GPU'
    yield table(['stage', 'state'], [
        [stage, f'done in {done[stage]["stage_seconds"]:.0f} s' if stage in done
         else failed.get(stage, 'not run')] for stage in LIMITS])
    for stage, reason in failed.items():
        lines = (args.out / f'{stage}.log').read_text(errors='replace').splitlines()[-20:]
        yield '\n'.join([f'## {stage}: {reason}', '```', *lines, '```'])
    for stage in ('environment', 'tests'):
        if stage in done:
            yield f'## {stage}'
            yield table(['', ''], [[key, ' '.join(str(value).split())]
                                   for key, value in done[stage].items()])
    yield '## An iteration'
    yield table(
        ['variant', 'device', 'iterations/s', 'peak GB', 'TFLOP/s', 'time to the floor',
         'sequential time to ours', "memory to one pass's", 'sequential memory to ours'],
        [[variant, one['device'], f'{1 / one["seconds"]:.2f}', f'{one["peak_bytes"] / 1e9:.2f}',
          f'{one["teraflops_per_second"]:.2f}', f'{one["floor_ratio"]:.2f}',
          f'{1 / one["sequential_ratio"]:.2f}', f'{one["memory_ratio"]:.2f}',
          f'{1 / one["sequential_memory_ratio"]:.2f}']
         for variant, one in done.items() if variant in VARIANTS])


def table(head, rows):
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
