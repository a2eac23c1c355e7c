"""Test and time a config on a GPU, and report it on one page.

    python tools/gpu_report.py --out DIR [--config CONFIG] [--source WxH] [--target WxH]
        [--repeats N] [--real CONFIG] [--iterations N] [--stages NAME ...]

Stages run one after the other, each in a process of its own with a time limit; together they take
less than nine minutes. A stage that succeeds appends a line to DIR/results.jsonl and is skipped
from then on, so an interrupted report goes on with the same command. DIR/report.md is the page.

* environment: versions and devices;
* peaks: matrix products and copies, the fastest that this device does;
* tests: those marked ``gpu``;
* float32 and others: an iteration of CONFIG by benchmark_step.py;
* real float32, real bf16: a training on images, from loading to the log, from the same weights.
"""
import argparse
import json
import os
import signal
import statistics
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
PEAKS = """
import json, torch
from torch.utils.benchmark import Timer
device = 'cuda' if torch.cuda.is_available() else 'cpu'
size = 8192 if device == 'cuda' else 256
found = {}
for name, dtype, tf32 in (('float32', torch.float32, False), ('tf32', torch.float32, True),
                          ('bf16', torch.bfloat16, False), ('fp16', torch.float16, False)):
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    took = Timer('a @ b', globals=dict(a=a, b=b)).blocked_autorange().median
    found[f'{name} TFLOP/s'] = 2 * size**3 / took / 1e12
x = torch.randn(16 * size**2, device=device)
took = Timer('y.copy_(x)', globals=dict(x=x, y=torch.empty_like(x))).blocked_autorange().median
found['copy TB/s'] = 2 * x.nbytes / took / 1e12
print(json.dumps(found))
"""
AMP = 'optim_wrapper.type=AmpOptimWrapper'
BF16 = (AMP, 'optim_wrapper.dtype=bfloat16')
PLAIN, LAST = 'model.channels_last=False', 'model.channels_last=True'
# Seconds at most; the peak that it is held against, and what of float32's runs in TF32; changes to
# the config. Convolutions by cuDNN's heuristics, as its search takes a minute in each process.
VARIANTS = {
    'bf16+channels_last': (35, 'bf16', 'all', (*BF16, LAST)),
    'float32': (55, 'float32', 'none', (PLAIN, )),
    # Each pass has its shapes, which do not change.
    'bf16+channels_last+compile': (140, 'bf16', 'all', (*BF16, LAST, 'compile.dynamic=False')),
    'fp16': (30, 'fp16', 'all', (AMP, 'optim_wrapper.dtype=float16', LAST)),
    'tf32': (30, 'tf32', 'all', (PLAIN, )),
    'bf16': (30, 'bf16', 'all', (*BF16, PLAIN)),
}
REAL = {'real bf16': (40, BF16), 'real float32': (40, ())}
# In the order of what is worth most. A machine just started needs 14 s to import torch and mmseg.
ORDER = ('environment', 'peaks', 'bf16+channels_last', 'float32', *REAL, 'tests',
         'bf16+channels_last+compile', 'fp16', 'tf32', 'bf16')
LIMITS = dict(environment=30, peaks=20, tests=85,
              **{name: limit for name, (limit, *_) in {**VARIANTS, **REAL}.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument('--config', type=Path,
                        default=ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py')
    parser.add_argument('--source', help="WxH of the source images (default: CONFIG's)")
    parser.add_argument('--target', help="WxH of the target images (default: CONFIG's)")
    parser.add_argument('--repeats', type=int, default=9, help='timings (default: %(default)s)')
    parser.add_argument('--real', type=Path, default=ROOT / (
        'configs/structseg/segformer_effnet-lite0_game2video.py'),
        help='config to train on images (default: %(default)s)')
    parser.add_argument('--iterations', type=int, default=100,
                        help='of the training on images (default: %(default)s)')
    parser.add_argument('--stages', nargs='+', choices=ORDER, default=ORDER,
                        metavar='NAME', help=f'some of: {", ".join(ORDER)} (default: all)')
    args = parser.parse_args()
    for config in (args.config, args.real):
        if not config.is_file():
            raise InputError(f'there is no {config}: give the path of a config')
    args.out, args.config, args.real = (
        path.resolve() for path in (args.out, args.config, args.real))
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
    if stage == 'peaks':
        return ['-c', PEAKS]
    if stage == 'tests':
        return ['-m', 'pytest', '-q', '-m', 'gpu', '--junitxml', args.out / 'tests.xml']
    if stage in REAL:
        return ['tools/train.py', args.real, '--work-dir', args.out / stage, '--cfg-options',
                'randomness.seed=0', f'train_cfg.max_iters={args.iterations}',
                'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None',
                'default_hooks.logger.interval=1', *REAL[stage][1]]
    _, _, tf32, changes = VARIANTS[stage]
    command = ['tools/analysis_tools/benchmark_step.py', args.config, '--repeats', args.repeats,
               '--json', args.out / f'{stage}.json', '--tf32', tf32]
    command += [f'--{name}={size}' for name, size in (
        ('source', args.source), ('target', args.target)) if size]
    return [*command, '--cfg-options', 'env_cfg.cudnn_benchmark=False', *changes]


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
    if stage in ('environment', 'peaks'):
        return json.loads((out / f'{stage}.log').read_text().splitlines()[-1])
    if stage in REAL:
        return training(out / stage)
    if stage == 'tests':
        suite = ElementTree.parse(out / 'tests.xml').getroot().find('testsuite')
        return {key: int(suite.get(key)) for key in ('tests', 'skipped', 'failures', 'errors')}
    return json.loads((out / f'{stage}.json').read_text())


def page(args, done, failed):
    """The report's sections."""
    yield f'# {args.config.stem}: report of a GPU'
    yield table(['stage', 'state'], [
        [stage, f'done in {done[stage]["stage_seconds"]:.0f} s' if stage in done
         else failed.get(stage, 'not run')] for stage in ORDER])
    for stage, reason in failed.items():
        lines = (args.out / f'{stage}.log').read_text(errors='replace').splitlines()[-20:]
        yield '\n'.join([f'## {stage}: {reason}', '```', *lines, '```'])
    for stage in ('environment', 'peaks', 'tests'):
        if stage in done:
            yield f'## {stage}'
            yield table(['', ''], [[key, ' '.join(str(value).split())]
                                   for key, value in done[stage].items()])
    yield '## An iteration'
    yield table(
        ['variant', 'device', 'iterations/s', 'to float32', 'hours for 150,000', 'peak GB',
         'TFLOP/s', 'kernels run', "products' TFLOP/s", 'of the peak', 'time to the floor',
         'sequential time to ours', "memory to one pass's", 'sequential memory to ours'],
        [[variant, one['device'], f'{1 / one["seconds"]:.2f}',
          ratio(done.get('float32', {}).get('seconds'), one['seconds']),
          f'{150e3 * one["seconds"] / 3600:.2f}', f'{one["peak_bytes"] / 1e9:.2f}',
          f'{one["teraflops_per_second"]:.2f}', *of_products(variant, one, done.get('peaks', {})),
          f'{one["floor_ratio"]:.2f}',
          f'{1 / one["sequential_ratio"]:.2f}', f'{one["memory_ratio"]:.2f}',
          f'{1 / one["sequential_memory_ratio"]:.2f}']
         for variant, one in done.items() if variant in VARIANTS])
    for variant, one in done.items():
        if 'device_milliseconds' in one:
            yield f'### {variant}: milliseconds of the device'
            for kind in ('operators', 'kernels'):
                yield table([kind, 'ms'], [[key.replace('|', '/'), f'{value:.2f}'] for key, value
                                           in one['device_milliseconds'][kind].items()])
    real = [stage for stage in REAL if stage in done]
    if real:
        yield f'## Training on images: {args.real.stem}'
        yield table(['', *real], [[key, *(f'{done[stage][key]:.4g}' for stage in real)]
                                  for key in done[real[0]] if key != 'stage'])


def training(work_dir):
    """What a training logs, the mean of the second half of its iterations."""
    log, = work_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    half = records[len(records) // 2:]
    return {key: statistics.mean(record[key] for record in half) for key in half[-1]
            if key.split('.')[-1].startswith(('loss', 'data_time', 'time', 'memory'))}


def of_products(variant, one, peaks):
    """Busy share of a GPU, speed of its convolutions and matrix products, share of its peak."""
    if 'device_milliseconds' not in one:
        return ['', '', '']
    spent, peak = one['device_milliseconds'], peaks.get(f'{VARIANTS[variant][1]} TFLOP/s')
    speed = one['teraflops'] / spent['products'] * 1e3
    return [f'{spent["total"] / one["seconds"] / 1e3:.0%}', f'{speed:.0f}',
            f'{speed / peak:.0%}' if peak else '']


def ratio(a, b):
    return f'{a / b:.2f}' if a else ''


def table(head, rows):
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
