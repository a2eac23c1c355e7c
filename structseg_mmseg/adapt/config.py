"""The config that adapts the network of a supervised training."""
import textwrap
from pathlib import Path
from typing import Any, Dict, List, Tuple

from mmengine.config import Config

from structseg_mmseg.errors import MIM

from .network import TERMS, Measured
from .python_text import WIDTH, assignment
from .target import Target, inference_loader

CONTEXT = 11  # units of the logits that D sees at once, with the paper's dilations
LONG = 10_000  # iterations from which on self-training's published settings suit
SCORED = 100  # images of the target, evenly spread, in each score without labels
BEST = 'agreement'  # that of LabelFreeMetric which can be trusted most: docs/label_free_scores.md


def method_of(measured: Measured, method: str, max_iters: int,
              side: int) -> Tuple[Dict[str, dict], Dict[str, dict]]:
    """The terms of a method and their optimizers, fitted to a network and a training.

    Weights and rates are the paper's, from ``configs/_base_/methods/structseg.py``. The widths
    follow what that folder has for encoders of other widths: G is as wide as the power of two
    between one and two times its features, from the stride up to the paper's 512, and D a quarter
    of that. D's dilations are the paper's.

    Self-training is that of DACS, ``dacs.py``. The published threshold and average, of MIC, suit
    40,000 iterations; in fewer than ``LONG`` the teacher must follow sooner and trust more. MIC's
    blocks are as large a part of the image as its 32 pixels of 512.

    Args:
        measured (Measured): Of the network.
        method (str): A key of ``TERMS``.
        max_iters (int): Of the training.
        side (int): The shorter side of its images, in pixels.
    """
    base, dacs, mic = (Config.fromfile(MIM / f'configs/_base_/methods/{name}.py')
                       for name in ('structseg', 'dacs', 'mic'))
    short, published = max_iters < LONG, mic.mic.self_training
    base.terms.self_training = dict(
        {key: dacs.dacs.self_training[key] for key in ('type', 'ema_at', 'jitter')},
        threshold=0.9 if short else published.threshold,
        alpha=0.99 if short else published.alpha)
    base.terms.masked = dict(mic.mic.masked, block=max(1, round(side / 16)))
    width = max(measured.stride, min(512, 2 ** measured.in_channels.bit_length()))
    base.terms.reconstruction.decoder.update(
        in_channels=measured.in_channels, in_index=measured.in_index, stride=measured.stride,
        channels=width)
    base.terms.adversary.discriminator.channels = max(1, width // 4)
    return tuple({name: part[name].to_dict()  # type: ignore[return-value]
                  for name in TERMS[method] if name in part}
                 for part in (base.terms, base.term_optimizers))


def adaptation(cfg: Config, base: str, checkpoint: str, target: Target, method: str,
               measured: Measured) -> str:
    """The text of a config that adapts the network of another one.

    Args:
        cfg (Config): The supervised training's.
        base (str): Where it is, as the new one is to name it.
        checkpoint (str): Its weights.
        target (Target): What it adapts to.
        method (str): A key of ``TERMS``.
        measured (Measured): Of its network.
    """
    max_iters = cfg.train_cfg.max_iters
    terms, optimizers = method_of(measured, method, max_iters, target.side)
    paper = {'reconstruction', 'adversary'} & {*terms}
    model: Dict[str, Any] = dict(
        type='AdvReconSegmentor' if paper else 'AdaptationSegmentor', terms=terms)
    # The checkpoint holds what these would load first.
    if cfg.model.get('pretrained') is not None:
        model['pretrained'] = None
    if (cfg.model.backbone.get('init_cfg') or {}).get('type') == 'Pretrained':
        model['backbone'] = dict(init_cfg=None)
    loader = cfg.train_dataloader
    sampler = dict(type='InfiniteSampler', shuffle=True)
    images = dict({key: loader[key] for key in ('batch_size', 'num_workers', 'persistent_workers')
                   if key in loader}, sampler=sampler, dataset=target.dataset)
    loop = dict(type='AdaptationTrainLoop')
    if 'by_epoch' in cfg.train_cfg:  # it takes no such key
        loop = dict(_replacing(cfg, 'train_cfg', loop), **{
            key: value for key, value in cfg.train_cfg.items() if key not in ('type', 'by_epoch')})
    sections: List[Tuple[str, Dict[str, Any]]] = [
        ('', dict(custom_imports=_imports(cfg))),
        (_said_of(terms, measured, max_iters), dict(model=model)),
        ('Its own statistics will do: training normalises by those of each batch, whose running '
         'averages, of both domains, soon forget where they began.', dict(load_from=checkpoint)),
        ('Each part has its own optimizer; that of the segmentor is the supervised one.',
         dict(optim_wrapper=_optim_wrapper(cfg, optimizers))),
        (f'{target.note}.', dict(target_dataloader=_replacing(cfg, 'target_dataloader', images))),
        ('', dict(train_cfg=loop)),
    ]
    if loader.get('sampler', {}).get('type') != 'InfiniteSampler':
        sections.append(('', dict(train_dataloader=dict(sampler=_replacing(
            loader, 'sampler', sampler)))))
    if isinstance(cfg.get('param_scheduler'), dict):
        sections.append(('A list, so that it is the schedule of each optimizer.',
                         dict(param_scheduler=[cfg.param_scheduler.to_dict()])))
    validates = cfg.get('val_dataloader') is not None
    scored = (f' Each validation also scores {SCORED} target images without labels, and the best '
              'by that score is kept: docs/label_free_scores.md.') * validates
    sections.append((
        f'As configs/_base_/default_runtime.py.{scored}',
        _runtime(cfg, inference_loader(cfg, target.folder) if validates else {})))
    sections.insert(0, (
        f'{method}: {Path(base).stem} adapts to {target.folder}. The schedule is that of the '
        'supervised training; as load_from has its result, lower rates and less of it may do.',
        dict(_base_=base)))
    lines = []
    for comment, keys in sections:
        keys = _lacking(cfg.to_dict(), keys)
        if not keys:
            continue
        lines += textwrap.wrap(comment, WIDTH, initial_indent='# ', subsequent_indent='# ',
                               break_long_words=False, break_on_hyphens=False)
        lines += [assignment(key, value) for key, value in keys.items()]
    return '\n'.join(lines) + '\n'


def _said_of(terms: dict, measured: Measured, max_iters: int) -> str:
    """What the comment above the model says."""
    said = []
    if 'self_training' in terms:
        said.append(f'Self-training as in DACS. Threshold and alpha suit {max_iters} iterations: '
                    f'0.9 and 0.99 below {LONG}, else 0.968 and 0.999, as published for 40000.')
    if 'masked' in terms:
        said.append('Blocks are a sixteenth of the shorter side of an image, as published.')
    if 'reconstruction' in terms:
        said.append(f'Measured: G decodes output {measured.in_index} of the encoder, '
                    f'{measured.in_channels} channels at stride {measured.stride}.')
    if 'adversary' in terms:
        said.append(f'Measured: D sees logits at stride {measured.logits_stride}, '
                    f'{CONTEXT * measured.logits_stride} pixels of a side at once.')
    if {'reconstruction', 'adversary'} & {*terms}:
        said.append("The weights are the paper's, not tuned.")
    return ' '.join(said)


def _replacing(cfg: Any, key: str, value: dict) -> dict:
    """The value, which is not to merge with one of the base."""
    # mmengine leaves _delete_ in a dict that replaces none.
    merges = isinstance(cfg.get(key), dict) and cfg[key] != value
    return dict(_delete_=True, **value) if merges else value


def _lacking(base: dict, keys: dict) -> dict:
    """What a base lacks of some keys and their values, which would merge with its own."""
    lacking = {}
    for key, value in keys.items():
        theirs = base.get(key)
        if isinstance(value, dict) and isinstance(theirs, dict) and '_delete_' not in value:
            value = _lacking(theirs, value)
            theirs = {}  # nothing, if it lacks nothing
        if key not in base or value != theirs:
            lacking[key] = value
    return lacking


def _imports(cfg: Config) -> dict:
    theirs = cfg.get('custom_imports', {})
    imports = theirs.get('imports', [])
    imports = [imports] if isinstance(imports, str) else [*imports]
    return dict(imports=list(dict.fromkeys([*imports, 'structseg_mmseg'])))


def _optim_wrapper(cfg: Config, optimizers: dict) -> dict:
    supervised = cfg.optim_wrapper.to_dict()
    if 'segmentor' in supervised:  # it is of this package's kind
        return optimizers
    of_part = ('constructor', 'optimizer', 'paramwise_cfg', 'clip_grad')
    segmentor = {key: supervised.pop(key, None) for key in of_part}
    return dict(
        _delete_=True, constructor='AdaptationOptimWrapperConstructor', **supervised,
        segmentor={key: value for key, value in segmentor.items() if value is not None},
        **optimizers)


def _runtime(cfg: Config, scored: dict) -> Dict[str, Any]:
    """What a training of this package needs and the base lacks.

    Args:
        cfg (Config): The base.
        scored (dict): Config of the loader of images to be scored without labels, or empty.
    """
    base = Config.fromfile(MIM / 'configs/_base_/default_runtime.py', import_custom_modules=False)
    theirs = [hook.to_dict() for hook in cfg.get('custom_hooks') or []]
    hooks: List[Dict[str, Any]] = [
        dict(type=hook) for hook in ('InputCheckHook', 'SyncBuffersHook')]
    saves = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    interval = saves.get('interval', base.default_hooks.checkpoint.interval)
    default_hooks = dict(
        checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=interval),
        summary=dict(type='SummaryHook'), panel=dict(type='PanelHook', interval=interval),
        watch=dict(type='WatchHook'))
    if scored:
        hooks.append(dict(type='LabelFreeHook', images=SCORED, dataloader=scored))
        default_hooks['checkpoint'].update(save_best=BEST, rule='greater')
    keys = dict(
        runner_type=base.runner_type,
        model_wrapper_cfg=_replacing(cfg, 'model_wrapper_cfg', base.model_wrapper_cfg.to_dict()),
        default_hooks=default_hooks,
        custom_hooks=theirs + [hook for hook in hooks if hook not in theirs],
        log_processor=dict(by_epoch=False, num_digits=base.log_processor.num_digits))
    if cfg.get('randomness') is None:
        keys['randomness'] = base.randomness.to_dict()
    return keys
