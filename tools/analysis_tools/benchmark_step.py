"""Compare the cost of a training iteration with its floor and with the sequential procedure.

    python tools/analysis_tools/benchmark_step.py CONFIG [--source WxH] [--target WxH]
        [--tf32 none|convolutions|all] [--json FILE]

On random images of the config's sizes (or of those given), on the GPU if there is one, it times

* ours: ``train_step`` of the config's model with its optimizers;
* the floor: forward and backward of every network (encoder, heads and those of the terms), as often
  and on the same inputs as in an iteration, without preprocessing, losses, softmax or optimizers;
* the sequential procedure of public code with the same networks: a backward pass for each loss,
  every loss read by the host;
* stock, for a source-only config: mmseg's ``EncoderDecoder``.

They alternate in one process; times and ratios are medians. Memory is the allocator's peak,
including parameters, gradients and optimizer states; ``memory_ratio`` is relative to the largest
pass alone. With ``compile`` only ours is compiled. On a GPU, ``device_milliseconds`` says how long
kernels run in one of our iterations, by operator and by kernel.
"""
import argparse
import inspect
import json
import re
import statistics
import time
from collections import Counter
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from structseg_mmseg.adapt import pipeline_of
from structseg_mmseg.engine.optim import AdaptationOptimWrapperConstructor
from structseg_mmseg.errors import InputError, one_sentence_errors
from structseg_mmseg.models.adaptation import frozen
from structseg_mmseg.models.segmentors import AdaptationSegmentor


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--source', type=size, help='WxH of the source images')
    parser.add_argument('--target', type=size, help='WxH of the target images')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--tf32', choices=('none', 'convolutions', 'all'), default='convolutions',
                        help="what of float32's runs in TF32: torch's default is convolutions "
                        'alone; all is matrix products, too')
    parser.add_argument('--json', type=Path, help='file to write the figures to')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args()


def size(text):
    return tuple(map(int, text.split('x')))


class Bench:
    """A config's model, optimizers and a batch, and the three ways to spend an iteration."""

    def __init__(self, cfg, source, target):
        self.device = torch.device(get_device())
        torch.manual_seed(0)
        cfg.model.backbone.pop('init_cfg', None)  # speed does not depend on the weights
        self.model = MODELS.build(cfg.model).to(self.device).train()
        self.wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        classes = self.model.num_classes
        batch = cfg.train_dataloader.batch_size
        self.data = dict(source=images(batch, *source, classes))
        if self.model.adapts:
            self.data['target'] = images(cfg.target_dataloader.batch_size, *target)
        self.train_step = self.model.train_step
        if cfg.get('compile'):
            self.train_step = torch.compile(
                self.train_step, **({} if cfg.compile is True else cfg.compile))

    def ours(self):
        self.train_step(self.data, self.wrapper)

    def build_stock(self, cfg):
        """mmseg's own EncoderDecoder, for a source-only config."""
        own = inspect.signature(AdaptationSegmentor).parameters
        model = {key: value for key, value in cfg.model.items() if key not in own}
        self.stock_model = MODELS.build(dict(model, type='EncoderDecoder')).to(self.device).train()
        constructor = AdaptationOptimWrapperConstructor(cfg.optim_wrapper)
        options = {**constructor.common, **constructor.parts['segmentor']}
        options.pop('constructor', None)
        self.stock_wrapper = build_optim_wrapper(self.stock_model, options)

    def stock(self):
        self.stock_model.train_step(self.data['source'], self.stock_wrapper)

    def passes(self):
        """The passes of our first step, as values, in turn."""
        model = self.model
        batches = model.prepare(self.data, self.wrapper)
        return model.passes(model.steps[0], batches)

    def run_pass(self, one):
        """A pass forward, alone; its losses."""
        with self.wrapper.optim_context(self.model):
            self.model(one, mode='pass')
        return one.losses

    def pass_alone(self, one):
        losses = self.run_pass(one)
        if losses:
            self.wrapper.backward(self.model.parse_losses(losses)[0])

    def prepare(self):
        """Record what an iteration asks of each network."""
        model, self.calls = self.model, []
        networks = {name: getattr(model, name, None)
                    for name in ('backbone', 'neck', 'decode_head', 'auxiliary_head')}
        for name, term in model.terms.items():
            networks.update({f'{name}.{child}': module for child, module in term.named_children()})
        networks = {name: module for name, module in networks.items() if module is not None}

        def recorded(name, module):
            forward = module.forward

            def call(x):
                self.calls.append(Call(name, module, x))
                return forward(x)
            return call

        for name, module in networks.items():
            module.forward = recorded(name, module)
        model.train_step(self.data, self.wrapper)
        for module in networks.values():
            del module.forward

    def floor(self, *names):
        """The recorded calls, all or those of some networks."""
        for call in self.calls:
            if not names or call.name in names:
                with self.wrapper.optim_context(self.model):
                    call.forward_and_backward()
        self.model.zero_grad()

    def sequential(self):
        for one in self.passes():
            losses = [loss for name, loss in self.run_pass(one).items() if 'loss' in name]
            for loss in losses:
                self.wrapper.backward(loss, retain_graph=loss is not losses[-1])
                loss.item()
        self.wrapper.update()

    def resident(self):
        """Bytes of parameters, buffers, optimizer states and such gradients as there are."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        tensors += [p.grad for p in self.model.parameters() if p.grad is not None]
        for wrapper in self.wrapper.values():
            for state in wrapper.optimizer.state.values():
                tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Call:
    """A call of a network in an iteration."""

    def __init__(self, name, module, x):
        self.name, self.module = name, module
        self.learns = torch.is_grad_enabled()
        self.frozen = not any(p.requires_grad for p in module.parameters())
        self.several = isinstance(x, (list, tuple))
        self.inputs = [(part.detach(), part.requires_grad) for part in (x if self.several else [x])]

    def forward_and_backward(self):
        x = [part.clone().requires_grad_(wanted and self.learns) for part, wanted in self.inputs]
        x = x if self.several else x[0]
        with torch.set_grad_enabled(self.learns):
            outputs = frozen(self.module, x) if self.frozen else self.module.forward(x)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        outputs = [output for output in outputs if output.requires_grad]
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


def images(batch, width, height, classes=None):
    """A batch as the loaders collate it; labelled if there are classes."""
    inputs = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(batch)]
    samples = [SegDataSample(metainfo=dict(
        img_shape=(height, width), ori_shape=(height, width), seed=(index, )))
        for index in range(batch)]
    if classes is not None:
        for sample in samples:
            sample.gt_sem_seg = PixelData(data=torch.randint(0, classes, (1, height, width)))
    return dict(inputs=inputs, data_samples=samples)


def seconds(function):
    synchronize()
    begin = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - begin


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak(function):
    """Bytes that the allocator held at once, above what it held before."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events()
              if event.name() == '[memory]']
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def device_time(bench, iterations=3):
    """Milliseconds of a GPU's kernels in one of our iterations."""
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profiler:
        for _ in range(iterations):
            bench.ours()
        synchronize()
    spent = {DeviceType.CPU: Counter(), DeviceType.CUDA: Counter()}  # by operator, by kernel
    for event in profiler.key_averages():
        milliseconds = event.self_device_time_total / 1e3 / iterations
        spent[event.device_type][event.key[:100]] += milliseconds
    operators, kernels = spent.values()
    return dict(
        total=sum(kernels.values()),
        products=sum(value for key, value in operators.items()
                     if re.search('convolution|mm$', key)),
        operators=dict(operators.most_common(20)),
        kernels=dict(kernels.most_common(30)))


def split(bench):
    """Seconds of the parts of one of our iterations."""
    parts = {}

    def timed(name, function, *args):
        parts[name] = parts.get(name, 0) + seconds(lambda: function(*args))

    passes = []
    timed('preparation', lambda: passes.extend(bench.passes()))
    for one in passes:
        timed(f'{one.name} pass', bench.pass_alone, one)
    timed('optimizers', bench.wrapper.update)
    return parts


def image_size(cfg, name, key):
    """Width and height of a loader's images by its Resize or RandomCrop; None without a loader."""
    if cfg.get(key) is None:
        return None
    sizes = {'Resize': lambda t: t.scale, 'RandomCrop': lambda t: t.crop_size[::-1]}
    sized = [sizes[t.type](t) for t in pipeline_of(cfg[key].dataset) if t.type in sizes]
    if not sized:
        raise InputError(f'{key} resizes nothing: give its size as --{name} WIDTHxHEIGHT')
    return sized[-1]


class TrafficCounterMode(TorchDispatchMode):
    """Bytes of the tensors that operators take and give, as if no cache kept any."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(part.nbytes for part in tree_leaves((args, kwargs, out))
                              if isinstance(part, torch.Tensor))
        return out


def main():
    args = parse_args()
    torch.set_flush_denormal(True)  # some CPUs are ten times slower with them
    torch.backends.cudnn.allow_tf32 = args.tf32 != 'none'
    torch.backends.cuda.matmul.allow_tf32 = args.tf32 == 'all'
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    torch.backends.cudnn.benchmark = cfg.env_cfg.cudnn_benchmark
    init_default_scope(cfg.default_scope)
    bench = Bench(cfg, args.source or image_size(cfg, 'source', 'train_dataloader'),
                  args.target or image_size(cfg, 'target', 'target_dataloader'))
    bench.prepare()
    ways = dict(ours=bench.ours, floor=bench.floor, sequential=bench.sequential)
    if 'target' not in bench.data:
        bench.build_stock(cfg)
        ways['stock'] = bench.stock
    times = {name: [] for name in ways}
    for repeat in range(args.repeats + 1):
        turn = repeat % len(ways)  # in turn, as each leaves caches and heap to the next
        order = list(ways)[turn:] + list(ways)[:turn]
        for name in order:
            spent = seconds(ways[name])
            if repeat:  # the first is to warm up
                times[name].append(spent)
        print(f'{repeat}/{args.repeats}  ' + '  '.join(
            f'{name} {values[-1]:.3f} s' for name, values in times.items() if values), flush=True)
    parts = [split(bench) for _ in range(3)]
    peaks = {name: bench.resident() + peak(way) for name, way in ways.items()}
    for one in bench.passes():  # so that there are gradients, as in all but the first pass
        bench.pass_alone(one)
    alone = bench.resident() + max(peak(lambda: bench.pass_alone(one)) for one in bench.passes())
    parts = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    for name in {call.name: None for call in bench.calls if '.' in call.name}:  # the terms' own
        parts[f'{name}, in the passes'] = statistics.median(
            seconds(lambda: bench.floor(name)) for _ in range(args.repeats))
    ours = times.pop('ours')
    # Convolutions and matrix products, to be held against the device's peak.
    with FlopCounterMode(display=False) as counter:
        bench.floor()
    flops = counter.get_total_flops()
    with TrafficCounterMode() as traffic:
        bench.ours()
    result = dict(
        seconds=statistics.median(ours),
        teraflops=flops / 1e12,
        teraflops_per_second=flops / statistics.median(ours) / 1e12,
        gigabytes_moved=traffic.bytes / 1e9,
        **{f'{name}_ratio': statistics.median(a / b for a, b in zip(ours, others))
           for name, others in times.items()},
        peak_bytes=peaks['ours'],
        memory_ratio=peaks['ours'] / alone,
        sequential_memory_ratio=peaks['ours'] / peaks['sequential'],
        seconds_of_parts=parts,
        device=str(bench.device))
    if bench.device.type == 'cuda':
        result['device_milliseconds'] = device_time(bench)
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
