"""Time one training iteration against what it must cost and what it would cost naively.

    python tools/analysis_tools/benchmark_step.py CONFIG [--source WxH] [--target WxH] [--[no-]tf32]
        [--json FILE]

On random images of the config's sizes (or of those given), on the GPU if there is one, it measures

* ours: ``train_step`` of the config's model with its optimizers;
* the floor: E, S, G and D forward and backward as many times as the method needs them, bare: no
  preprocessing, loss, softmax or optimizer;
* the naive procedure of public code: predictions of both domains upsampled to the image before
  softmax and D, three separate passes through D, every loss read by the host;
* stock, for a source-only config: mmseg's ``EncoderDecoder``.

They take turns in one process; times and ratios are medians. Memory is the allocator's peak,
parameters, gradients and optimizer states included; ``memory_ratio`` holds it against the larger of
the two passes alone. With ``compile=True`` it is ours that is compiled; its parts and the passes
alone are not.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from torch.utils.flop_counter import FlopCounterMode

from structseg_mmseg.engine.optim import AdaptationOptimWrapperConstructor
from structseg_mmseg.errors import InputError, one_sentence_errors
from structseg_mmseg.models.batch_statistics import live_norms


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--source', type=size, help='WxH of the source images')
    parser.add_argument('--target', type=size, help='WxH of the target images')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument(
        '--tf32', action=argparse.BooleanOptionalAction,
        help="on a GPU: TF32 for float32's convolutions and matrix products, or for neither "
        "(default: torch's, for convolutions alone)")
    parser.add_argument('--json', help='file to write the figures to')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args()


def size(text):
    return tuple(map(int, text.split('x')))


def set_tf32(allowed):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


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
        if cfg.get('target_dataloader') is not None:
            self.data['target'] = images(cfg.target_dataloader.batch_size, *target)
        self.train_step = self.model.train_step
        if cfg.get('compile'):
            self.train_step = torch.compile(
                self.train_step, **({} if cfg.compile is True else cfg.compile))

    def ours(self):
        self.train_step(self.data, self.wrapper)

    def build_stock(self, cfg):
        """mmseg's own EncoderDecoder, for a source-only config."""
        model = {key: value for key, value in cfg.model.items() if key not in (
            'reconstructor', 'discriminator', 'loss_rec', 'loss_adv', 'discriminator_input',
            'batch_statistics', 'nonfinite_loss', 'channels_last')}
        self.stock_model = MODELS.build(dict(model, type='EncoderDecoder')).to(self.device).train()
        options = dict(cfg.optim_wrapper, **cfg.optim_wrapper.segmentor)
        for key in ('constructor', *AdaptationOptimWrapperConstructor.parts):
            options.pop(key, None)
        self.stock_wrapper = build_optim_wrapper(self.stock_model, options)

    def stock(self):
        self.stock_model.train_step(self.data['source'], self.stock_wrapper)

    def domain_pass(self, domain):
        """Our pass on one domain, alone."""
        model = self.model
        with self.wrapper.optim_context(model):
            batch = model.data_preprocessor(self.data[domain], True)
            if domain == 'target':
                losses, _ = model.target_loss(batch['inputs'])
            else:
                has_d = model.discriminator is not None
                losses = model.loss(
                    **batch, target_softmax=self.softmax['target'] if has_d else None)
        if losses:
            self.wrapper.backward(model.parse_losses(losses)[0])

    def prepare(self):
        """The inputs of the floor: normalised images and softmax maps."""
        model, self.inputs, self.softmax = self.model, {}, {}
        with torch.no_grad():
            for domain, data in self.data.items():
                self.inputs[domain] = model.data_preprocessor(data, True)['inputs']
                logits = model.decode_head.forward(model.extract_feat(self.inputs[domain]))
                self.softmax[domain] = logits.softmax(1)

    def forward(self, domain):
        """What E, S, G and D give for one domain, bare."""
        model = self.model
        learns = domain == 'source' or model.adapts
        with self.wrapper.optim_context(model), torch.set_grad_enabled(learns):
            x = model.extract_feat(self.inputs[domain])
            outputs = []
            if domain == 'source' or model.discriminator is not None:
                logits = model.decode_head.forward(x)
                if domain == 'source':
                    outputs.append(logits)
                else:
                    outputs.append(model._frozen_discriminator(logits, 'target'))
            elif live_norms(model.decode_head):
                with torch.no_grad():  # for its statistics
                    model.decode_head.forward(x)
            if domain == 'source' and model.discriminator is not None:
                outputs += [model.discriminator(softmax) for softmax in self.softmax.values()]
            if model.reconstructor is not None:
                outputs.append(model.reconstructor(x))
        return outputs

    def floor(self):
        for domain in reversed(self.data):
            outputs = self.forward(domain)
            if outputs:
                backpropagate(outputs)
        self.model.zero_grad()

    def naive(self):
        model, domains = self.model, {}
        E, S, G, D = model.backbone, model.decode_head, model.reconstructor, model.discriminator
        host = []

        def backward(*losses):
            self.wrapper.backward(sum(losses))
            host.extend(loss.item() for loss in losses)

        if D is not None:
            D.requires_grad_(False)
        for domain, data in self.data.items():
            batch = model.data_preprocessor(data, True)
            inputs = batch['inputs']
            with self.wrapper.optim_context(model):
                x = E(inputs)
                up = None
                if domain == 'source' or D is not None:
                    up = F.interpolate(S.forward(x), size=inputs.shape[2:], mode='bilinear',
                                       align_corners=True)
                losses = []
                if domain == 'source':
                    supervised = S.loss_by_feat(up, batch['data_samples'])
                    losses += [loss for name, loss in supervised.items() if 'loss' in name]
                elif D is not None:
                    losses.append(1e-3 * F.softplus(-D(up.softmax(1))).mean())
                if G is not None:
                    losses.append(model._reconstruction_loss(x, inputs))
            if losses:
                backward(*losses)
            if D is not None:
                domains[domain] = up.detach()
        if D is not None:
            D.requires_grad_(True)
        for domain, up in domains.items():
            with self.wrapper.optim_context(model):
                sign = -1 if domain == 'source' else 1
                loss = F.softplus(sign * D(up.softmax(1))).mean()
            backward(loss)
        self.wrapper.update()

    def discriminator(self):
        """D's share of an iteration: one pass for its input's sake, two for its own."""
        target = self.softmax['target'].requires_grad_()
        with self.wrapper.optim_context(self.model):
            outputs = [self.model._frozen_discriminator(target, 'target')]
            outputs += [self.model.discriminator(softmax.detach())
                        for softmax in self.softmax.values()]
        backpropagate(outputs)

    def resident(self):
        """Bytes of parameters, buffers, optimizer states and such gradients as there are."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        tensors += [p.grad for p in self.model.parameters() if p.grad is not None]
        for wrapper in self.wrapper.values():
            for state in wrapper.optimizer.state.values():
                tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def backpropagate(outputs):
    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


def images(batch, width, height, classes=None):
    """A batch as the loaders collate it; labelled if there are classes."""
    inputs = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(batch)]
    samples = [SegDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width)))
               for _ in range(batch)]
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


def split(bench):
    """Seconds of the parts of one of our iterations."""
    model, wrapper, parts = bench.model, bench.wrapper, {}

    def timed(name, function):
        def call(*args, **kwargs):
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            synchronize()
            parts[name] = parts.get(name, 0) + time.perf_counter() - begin
            return result
        return call

    target = 2 if model.adapts else len(bench.data) - 1  # a pass for statistics has no backward
    names = iter([*['target pass'] * target, *['source pass'] * 2])
    forward, backward, update = model.forward, wrapper.backward, wrapper.update
    model.forward = lambda *args, **kwargs: timed(next(names), forward)(*args, **kwargs)
    wrapper.backward = lambda *args, **kwargs: timed(next(names), backward)(*args, **kwargs)
    wrapper.update = timed('optimizers', update)
    try:
        total = seconds(lambda: model.train_step(bench.data, wrapper))
    finally:
        del model.forward
        wrapper.backward, wrapper.update = backward, update
    parts['rest'] = total - sum(parts.values())
    return parts


def data_seconds(cfg, samples=10):
    """Seconds that one process takes to load an iteration's images; None if there are none."""
    total = 0
    for key in ('train_dataloader', 'target_dataloader'):
        if cfg.get(key) is None:
            continue
        try:
            dataset = DATASETS.build(cfg[key].dataset)
        except InputError:
            return None
        dataset[0]
        spent = [seconds(lambda: dataset[index % len(dataset)]) for index in range(samples)]
        total += statistics.median(spent) * cfg[key].batch_size
    return total


def sizes(cfg, args):
    """WxH of source and target images: given, or those of the config's resizing."""
    found = []
    for name, key in (('source', 'train_dataloader'), ('target', 'target_dataloader')):
        given = getattr(args, name)
        if given is None and cfg.get(key) is not None:
            scales = [t.scale for t in cfg[key].dataset.pipeline if t.type == 'Resize']
            if not scales:
                raise InputError(f'{key} resizes nothing: give its size as --{name} WIDTHxHEIGHT')
            given = scales[-1]
        found.append(given)
    return found


def main():
    args = parse_args()
    torch.set_flush_denormal(True)  # some CPUs are ten times slower with them
    if args.tf32 is not None:
        set_tf32(args.tf32)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    torch.backends.cudnn.benchmark = cfg.env_cfg.cudnn_benchmark
    init_default_scope(cfg.default_scope)
    bench = Bench(cfg, *sizes(cfg, args))
    bench.prepare()
    ways = dict(ours=bench.ours, floor=bench.floor, naive=bench.naive)
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
    for domain in bench.data:  # so that there are gradients, as in all but the first pass
        bench.domain_pass(domain)
    alone = bench.resident() + max(
        peak(lambda: bench.domain_pass(domain)) for domain in bench.data)
    parts = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    if bench.model.discriminator is not None:
        parts['discriminator, in the passes'] = statistics.median(
            seconds(bench.discriminator) for _ in range(args.repeats))
    parts['data, by one worker'] = data_seconds(cfg)
    ours = times.pop('ours')
    # Convolutions and matrix products, a backward pass as two forward ones, to be held against the
    # device's peak.
    flops = 0
    for domain in bench.data:
        with FlopCounterMode(display=False) as counter:
            learns = bool(bench.forward(domain))
        flops += counter.get_total_flops() * (3 if learns else 1)
    result = dict(
        seconds=statistics.median(ours),
        teraflops_per_second=flops / statistics.median(ours) / 1e12,
        **{f'{name}_ratio': statistics.median(a / b for a, b in zip(ours, others))
           for name, others in times.items()},
        peak_bytes=peaks['ours'],
        memory_ratio=peaks['ours'] / alone,
        naive_memory_ratio=peaks['ours'] / peaks['naive'],
        seconds_of_parts=parts,
        device=str(bench.device))
    print(json.dumps(result, indent=2))
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(result, file, indent=2)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
