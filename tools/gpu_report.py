"""Run what only a GPU can show, and report it on one page.

    python tools/gpu_report.py --out DIR [--config CONFIG] [--source WxH] [--target WxH]
        [--ablation CONFIG ...] [--stages NAME ...] [--minutes N]

Stages run one after the other, each in a process of its own. Each leaves DIR/STAGE.log and, at its
end, DIR/STAGE.json; a stage that has the latter is not run again. So the command may be killed at
any time, and given again until DIR/report.md, which grows with every stage, is complete. When the
budget of minutes is spent, the stage at work is stopped, and the rest is left for the next call.

* environment: versions, and the device's peak in matrix products and copies;
* tests: those that pytest's marker ``gpu`` selects;
* step_VARIANT: an iteration of CONFIG, by benchmark_step.py, in several precisions;
* losses: whether these precisions learn alike, in 100 iterations on 8 images at half the sizes;
* ranks: two devices against one with twice the batch;
* ablation: ``tools/ablation.py`` on the configs given, three seeds each.
"""
import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import structseg_mmseg  # noqa: F401  before mmseg, which it imports without noise
import mmcv
import mmengine
import mmseg
import numpy as np
import torch
import torch.nn.functional as F
from analysis_tools.benchmark_step import Bench, images, set_tf32, size, sizes
from matplotlib import pyplot as plt
from mmengine.config import Config
from mmengine.registry import init_default_scope

from structseg_mmseg.engine.checkpoint import load_from_local
from structseg_mmseg.errors import InputError, one_sentence_errors

ROOT = Path(__file__).resolve().parents[1]
DTYPES = {'float32': torch.float32, 'tf32': torch.float32, 'bf16': torch.bfloat16,
          'fp16': torch.float16}
VARIANTS = {  # precision, channels_last, compile
    'float32': ('float32', False, False),
    'float32+tf32': ('tf32', False, False),
    'bf16': ('bf16', False, False),
    'fp16': ('fp16', False, False),
    'bf16+channels_last': ('bf16', True, False),
    'fp16+channels_last': ('fp16', True, False),
    'bf16+channels_last+compile': ('bf16', True, True),
}
# The first is what the others are held against; a second run of it shows what chance does, as some
# gradients are summed in no fixed order.
CURVES = {'float32': 'float32', 'float32 again': 'float32', 'float32+tf32': 'float32+tf32',
          'bf16': 'bf16', 'fp16': 'fp16',
          'bf16+channels_last+compile': 'bf16+channels_last+compile'}
ITERATIONS = 100
SMOOTHING = 10  # iterations


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument('--config', type=Path,
                        default=ROOT / 'configs/structseg/deeplabv2_r101_gta2cs.py')
    parser.add_argument('--source', type=size, help="WxH of the source images (default: CONFIG's)")
    parser.add_argument('--target', type=size, help="WxH of the target images (default: CONFIG's)")
    parser.add_argument('--ablation', type=Path, nargs='+', default=[], metavar='CONFIG',
                        help='what to train with seeds 0, 1 and 2 (default: nothing)')
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=list(STAGES),
                        metavar='NAME', help=f'some of: {", ".join(STAGES)} (default: all)')
    parser.add_argument('--minutes', type=float, default=25, help='budget (default: %(default)s)')
    return parser.parse_args()


def run(*command, **environment):
    """Run a command in the repository; its output is the stage's."""
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'  # has torchrun
    command = list(map(str, command))
    code = subprocess.run(command, cwd=ROOT,
                          env=dict(os.environ, PATH=path, **environment)).returncode
    if code:
        sys.exit(f'{" ".join(command)} ended with {code}')


def environment(args):
    """Versions; the device's peaks, which shares of the peak refer to."""
    found = dict(
        device='CPU', python=platform.python_version(), torch=torch.__version__,
        cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(), mmcv=mmcv.__version__,
        mmengine=mmengine.__version__, mmseg=mmseg.__version__, cores=os.cpu_count())
    if not torch.cuda.is_available():
        return found
    properties = torch.cuda.get_device_properties(0)
    found.update(device=properties.name, devices=torch.cuda.device_count(),
                 memory_gb=properties.total_memory / 1e9)
    if shutil.which('nvidia-smi'):
        found['driver'] = subprocess.run(
            ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'],
            capture_output=True, text=True, check=True).stdout.split()[0]
    for precision, dtype in DTYPES.items():
        set_tf32(precision == 'tf32')
        a, b = (torch.randn(8192, 8192, device='cuda', dtype=dtype) for _ in range(2))
        found[f'{precision}_teraflops_per_second'] = (
            2 * 8192**3 / cuda_seconds(lambda: a @ b) / 1e12)
    a = torch.randn(2**28, device='cuda')
    b = torch.empty_like(a)
    found['copy_gb_per_second'] = 2 * a.nbytes / cuda_seconds(lambda: b.copy_(a)) / 1e9
    return found


def cuda_seconds(function, repeats=10):
    """Median of the device's seconds."""
    for _ in range(3):  # to warm up
        function()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events) / 1e3


def tests(args):
    """The tests that use a GPU."""
    counts = args.out / 'tests.xml'
    run(sys.executable, '-m', 'pytest', '-q', '-m', 'gpu', '--junitxml', counts)
    suite = ElementTree.parse(counts).getroot().find('testsuite')
    return {key: int(suite.get(key)) for key in ('tests', 'skipped', 'failures', 'errors')}


def options(variant):
    """What a variant changes in a config."""
    precision, channels_last, compile = VARIANTS[variant]
    changes = {'model.channels_last': channels_last, 'compile': compile}
    if precision in ('bf16', 'fp16'):
        changes['optim_wrapper.type'] = 'AmpOptimWrapper'
        changes['optim_wrapper.dtype'] = str(DTYPES[precision]).split('.')[1]
    return changes


def step(variant, args):
    """What benchmark_step.py finds."""
    file = args.out / f'benchmark_{variant}.json'
    given = [f'--{name}={"x".join(map(str, value))}' for name, value in (
        ('source', args.source), ('target', args.target)) if value]
    run(sys.executable, 'tools/analysis_tools/benchmark_step.py', args.config, *given,
        '--repeats', 20, '--tf32' if VARIANTS[variant][0] == 'tf32' else '--no-tf32',
        '--json', file, '--cfg-options', *(f'{k}={v}' for k, v in options(variant).items()))
    return json.loads(file.read_text())


def losses(args):
    """Curves of all losses from equal weights on equal images, compared; DIR/losses.png."""
    curves = {}
    for name, variant in CURVES.items():
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(options(variant))
        init_default_scope(cfg.default_scope)
        torch.backends.cudnn.benchmark = cfg.env_cfg.cudnn_benchmark
        set_tf32(VARIANTS[variant][0] == 'tf32')
        source, target = ([length // 2 for length in wh] if wh else None for wh in sizes(cfg, args))
        bench = Bench(cfg, source, target)
        torch.manual_seed(0)
        bench.model.init_weights()
        batches = []
        for _ in range(8):
            batches.append(dict(source=smooth(bench.data['source'], bench.model.num_classes)))
            if bench.model.adapts:
                batches[-1]['target'] = smooth(bench.data['target'])
        curve = defaultdict(list)
        for iteration in range(ITERATIONS):
            logs = bench.train_step(batches[iteration % len(batches)], bench.wrapper)
            for loss, value in logs.items():
                if 'loss' in loss:
                    curve[loss].append(value.item())
        curves[name] = curve
        print(name, {loss: values[-1] for loss, values in curve.items()}, flush=True)
    draw(curves, args.out / 'losses.png')
    differences = {name: {loss: difference(values, curves['float32'][loss])
                          for loss, values in curve.items()} for name, curve in curves.items()}
    return dict(differences=differences, curves=curves)


def smooth(batch, classes=None):
    """A batch of the same sizes, of random colours, and labels, that vary slowly."""
    height, width = batch['inputs'][0].shape[1:]

    def surfaces(channels):
        coarse = torch.rand(1, channels, height // 32 + 2, width // 32 + 2)
        return F.interpolate(coarse, (height, width), mode='bilinear')[0]

    batch = images(len(batch['inputs']), width, height, classes)
    batch['inputs'] = [(surfaces(3) * 255).byte() for _ in batch['inputs']]
    if classes is not None:
        for sample in batch['data_samples']:
            sample.gt_sem_seg.data = surfaces(classes).argmax(0, keepdim=True)
    return batch


def smoothed(curve):
    return np.convolve(curve, np.full(SMOOTHING, 1 / SMOOTHING), 'valid')


def difference(curve, reference):
    """How far two smoothed curves are apart, relatively, and where the first ends."""
    reference = smoothed(reference)
    relative = np.abs(smoothed(curve) - reference) / np.abs(reference)
    return dict(mean=relative.mean(), max=relative.max(), final=smoothed(curve)[-1])


def draw(curves, path):
    names = list(curves['float32'])
    figure, axes = plt.subplots(len(names), figsize=(8, 2.5 * len(names)), squeeze=False)
    for loss, axis in zip(names, axes[:, 0]):
        for name, curve in curves.items():
            axis.plot(smoothed(curve[loss]), label=name, linewidth=1)
        axis.set_title(loss)
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path)


def ranks(args):
    """How two ranks with two images each move the weights, against one rank with four."""
    if torch.cuda.device_count() < 2:
        return dict(not_run='one device')
    config = 'configs/structseg/segformerhead_lite0_demo.py'
    data = str(args.out / 'demo')
    run(sys.executable, 'tools/dataset_converters/draw_demo.py', data, '--source', 40,
        '--target', 40, '--val', 4)
    common = ['--cfg-options', 'train_cfg.max_iters=20', 'default_hooks.checkpoint.interval=10']
    run('tools/dist_train.sh', config, 2, '--work-dir', args.out / 'two_ranks', *common, DEMO=data)
    run(sys.executable, 'tools/train.py', config, '--work-dir', args.out / 'one_rank', *common,
        'train_dataloader.batch_size=4', 'target_dataloader.batch_size=4', DEMO=data)
    one, two = (movements(args.out / name) for name in ('one_rank', 'two_ranks'))
    return {f'relative difference, {part}': f'{(two[part] - one[part]).norm() / move.norm():.2%}'
            for part, move in one.items()}


def movements(folder):
    """What each part's weights have moved by from iteration 10 to 20, as one vector a part."""
    first, last = (load_from_local(str(folder / f'iter_{iteration}.pth'))['state_dict']
                   for iteration in (10, 20))
    return {part: torch.cat([(last[name] - value).flatten() for name, value in first.items()
                             if name.startswith(part) and name.endswith(('weight', 'bias'))])
            for part in ('backbone', 'decode_head', 'terms')}


def ablation(args):
    """The table of tools/ablation.py, which goes on where it was stopped."""
    run(sys.executable, 'tools/ablation.py', *args.ablation, '--seeds', 0, 1, 2,
        '--work-dir', args.out / 'ablation', '--jobs', max(1, os.cpu_count() // 4))
    return dict(configs=[path.stem for path in args.ablation])


STAGES = dict(environment=environment, tests=tests,
              **{f'step_{variant}': partial(step, variant) for variant in VARIANTS},
              losses=losses, ranks=ranks, ablation=ablation)


def work(stage, args):
    """A stage, in a process of its own."""
    os.setsid()  # so that what it starts can be stopped with it
    with open(args.out / f'{stage}.log', 'wb') as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    with one_sentence_errors():
        result = json.dumps(STAGES[stage](args), indent=2)
    unfinished = args.out / f'{stage}.unfinished'
    unfinished.write_text(result)
    unfinished.replace(args.out / f'{stage}.json')


def supervise(stage, args, seconds):
    """Run a stage for as long as it may: its state."""
    process = multiprocessing.get_context('spawn').Process(target=work, args=(stage, args))
    process.start()
    try:
        process.join(seconds)
        if process.is_alive():
            return 'stopped at the end of the budget'
    finally:
        if process.is_alive():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has no group yet
                process.kill()
            process.join()
    return 'failed' if process.exitcode else 'done'


def table(head, rows):
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def page(args, states):
    """The report, from what lies in the folder."""
    found = {stage: json.loads((args.out / f'{stage}.json').read_text()) for stage in STAGES
             if (args.out / f'{stage}.json').exists()}
    environment = found.get('environment', {})
    device = (environment.get('device', 'a GPU') if torch.cuda.is_available()
              else 'no GPU, so all of this is about the CPU')
    yield f'# {args.config.stem}: {device}'
    yield table(['stage', 'state'], [
        [stage, 'done' if stage in found else states.get(stage, 'not run')] for stage in STAGES])
    for stage, state in states.items():
        if state == 'failed':
            lines = (args.out / f'{stage}.log').read_text(errors='replace').splitlines()[-30:]
            yield '\n'.join([f'## {stage} failed', '```', *lines, '```'])
    for stage in ('environment', 'tests', 'ranks'):
        if stage in found:
            yield f'## {stage}'
            yield table(['', ''], [
                [key, f'{value:.1f}' if isinstance(value, float) else value]
                for key, value in found[stage].items()])
    peaks = {variant: environment.get(f'{precision}_teraflops_per_second')
             for variant, (precision, *_) in VARIANTS.items()}
    steps = {variant: found[f'step_{variant}'] for variant in VARIANTS
             if f'step_{variant}' in found}
    if steps:
        yield '## step'
        yield ('float32 has TF32 in nothing, float32+tf32 in convolutions and matrix products; '
               "torch's default, which a run without this tool gets, is TF32 in convolutions "
               'alone. The peak is that of matrix products in the same precision.')
        yield table(
            ['variant', 'iterations/s', 'peak GB', 'TFLOP/s', 'of the peak', 'time to the floor',
             'sequential time to ours', "memory to one domain's pass", 'sequential memory to ours'],
            [[variant, f'{1 / figures["seconds"]:.2f}', f'{figures["peak_bytes"] / 1e9:.2f}',
              f'{figures["teraflops_per_second"]:.2f}',
              f'{figures["teraflops_per_second"] / peaks[variant]:.0%}' if peaks[variant] else '',
              f'{figures["floor_ratio"]:.2f}', f'{1 / figures["sequential_ratio"]:.2f}',
              f'{figures["memory_ratio"]:.2f}', f'{1 / figures["sequential_memory_ratio"]:.2f}']
             for variant, figures in steps.items()])
    if 'losses' in found:
        differences = found['losses']['differences']
        names = list(differences['float32'])
        yield '## losses'
        yield (f'Means over {SMOOTHING} iterations: the last one and, in brackets, the mean and '
               'the largest relative difference to float32.')
        yield table(['variant', *names], [
            [name, *(f'{row[loss]["final"]:.4g} ({row[loss]["mean"]:.2%}, {row[loss]["max"]:.2%})'
                     for loss in names)] for name, row in differences.items()])
        yield '![losses](losses.png)'
    if (args.out / 'ablation/table.md').exists():
        yield '## ablation'
        yield (args.out / 'ablation/table.md').read_text()


def main():
    args = parse_args()
    for name in ('out', 'config'):
        setattr(args, name, getattr(args, name).resolve())
    args.ablation = [path.resolve() for path in args.ablation]
    for path in (args.config, *args.ablation):
        if not path.is_file():
            raise InputError(f'{path} is no file: give the path of a config')
    args.out.mkdir(parents=True, exist_ok=True)
    begin, states = time.monotonic(), {}
    for stage in args.stages:
        start = time.monotonic()
        left = 60 * args.minutes - (start - begin)
        if (args.out / f'{stage}.json').exists():
            continue
        if stage == 'ablation' and not args.ablation:
            states[stage] = 'not asked for'
        elif left > 0:
            print(f'{stage} ...', flush=True)
            states[stage] = supervise(stage, args, left)
            now = time.monotonic()
            print(f'{stage} {states[stage]}: {now - start:.0f} s, {now - begin:.0f} s so far',
                  flush=True)
        (args.out / 'report.md').write_text('\n\n'.join(page(args, states)) + '\n')
    if 'failed' in states.values():
        sys.exit(1)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
