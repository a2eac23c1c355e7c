"""From the config of a supervised training to one that adapts its network to other images."""
import textwrap
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import Any, Dict, List, Tuple

import mmseg
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import import_modules_from_strings
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from structseg_mmseg.datasets import IMAGES
from structseg_mmseg.engine.checkpoint import check_fit
from structseg_mmseg.errors import MIM, InputError
from structseg_mmseg.models.adaptation import Batch, Branches, Pass, View
from structseg_mmseg.models.segmentors import AdaptationSegmentor, AdvReconSegmentor

# The terms of each method that trains.
TERMS = {
    'structseg': ('reconstruction', 'adversary'),
    'output-level': ('adversary', ),
    'feature-level': ('reconstruction', ),
}
METHODS = ('statistics', *TERMS)
STATISTICS = '--method statistics needs only batch normalisation'
SIDE = 128  # of the images that a network is measured on, in pixels: 4 positions at stride 32
WIDTH = 100  # of a line


@dataclass(frozen=True)
class Measured:
    """What the terms need to know about a network.

    Attributes:
        in_index (int): Which of the encoder's outputs G decodes.
        in_channels (int): Its width.
        stride (int): Its stride, in pixels of the image.
        logits_stride (int): Stride of the decode head's logits, which D sees; 0 if not measured.
    """

    in_index: int
    in_channels: int
    stride: int
    logits_stride: int = 0


def load_config(name: str) -> Tuple[Path, Config]:
    """A config and where it is.

    Args:
        name (str): Its path, or its name in mmseg's own zoo, with or without ``.py``.

    Raises:
        InputError: If there is no such config, it is written in mmengine's new style, or it imports
            what is not installed.
    """
    path = Path(name)
    if not path.is_file():
        zoo = Path(mmseg.__file__).parent.glob(f'.mim/configs/*/{path.name.removesuffix(".py")}.py')
        found = next(zoo, None)
        if found is None:
            raise InputError(f'there is no config {name}, and none of this name in the zoo of '
                             'mmseg: check the path')
        path = found
    if Config._is_lazy_import(str(path)):
        raise InputError(f'{path} imports its bases (read_base): give a config that inherits by '
                         '_base_, which others can inherit')
    return path, Config.fromfile(path, import_custom_modules=False)


def images_of(folder: Path) -> List[Path]:
    """The images below a folder, sorted.

    Raises:
        InputError: If there is none.
    """
    if not folder.is_dir():
        raise InputError(f'there is no folder {folder}: give --target a folder of images')
    # glob follows links to folders, as the data set does; rglob would not.
    files = glob(f'{escape(str(folder))}/**', recursive=True)
    images = sorted(Path(file) for file in files if file.lower().endswith(IMAGES))
    if not images:
        raise InputError(f'{folder} holds no image ({", ".join(IMAGES)}): give another --target')
    return images


def build(cfg: Config, method: str) -> EncoderDecoder:
    """The network, with its weights uninitialised, as the method trains it, but without terms.

    Raises:
        InputError: If the method cannot go with it, or it needs what is not installed.
    """
    model = cfg.get('model') or {}
    for key in ('type', 'decode_head'):
        if key not in model:
            raise InputError(f'the config has no model.{key}: give the config of a segmentor')
    if method != 'statistics':
        _check_types(model, method)
        model = dict(model, type='AdaptationSegmentor')
    try:
        import_modules_from_strings(**cfg.get('custom_imports', dict(imports=None)))
        return MODELS.build(dict(model, pretrained=None))
    except ImportError as error:
        raise InputError(f'the model cannot be built ({str(error).splitlines()[0]}): install what '
                         'it needs') from error


def _check_types(model: dict, method: str) -> None:
    if MODELS.get(model['type']) not in (EncoderDecoder, AdaptationSegmentor, AdvReconSegmentor):
        raise InputError(f'model.type is {model["type"]}, and terms need an EncoderDecoder: no '
                         f'method that trains goes with it; {STATISTICS}')
    if any(model.get('terms', {}).values()):
        raise InputError('model.terms is set, so the config adapts already: give that of the '
                         'supervised training')
    head = model['decode_head']['type']
    if 'adversary' in TERMS[method]:
        if not issubclass(MODELS.get(head) or BaseDecodeHead, BaseDecodeHead):
            raise InputError(
                f'model.decode_head {head} classifies masks, not pixels, and so has no map of '
                f'logits for an adversary: choose --method feature-level; {STATISTICS}')
        if model['decode_head'].get('out_channels') == 1:
            raise InputError(
                f'model.decode_head {head} has out_channels=1, whose softmax tells an adversary '
                f'nothing: choose --method feature-level, or two channels; {STATISTICS}')


@torch.no_grad()
def measure(model: EncoderDecoder, method: str) -> Measured:
    """Measure a network in one forward pass of two random images, in training mode.

    G starts from the deepest features at stride 16 or less, of those that the decode head reads:
    at 32 they lie too far from pixels.

    Args:
        model (EncoderDecoder): As :func:`build` gives it; its running statistics change.
        method (str): A key of ``TERMS``; without an adversary the decode head does not run.

    Raises:
        InputError: If the method cannot go with it.
    """
    # One image is too few where a head pools an image to a single value and normalises it.
    view = View(model.train(), Pass(
        'target', Batch(torch.randn(2, 3, SIDE, SIDE), []), Branches(0), {}))
    features = view.features()
    reads = getattr(model.decode_head, 'in_index', range(len(features)))
    reads = [reads] if isinstance(reads, int) else reads
    strides = {index % len(features): SIDE // features[index].shape[-1] for index in reads}
    near = [stride for stride in strides.values() if stride <= 16] or [min(strides.values())]
    index = max(index for index, stride in strides.items() if stride == max(near))
    stride = strides[index]
    if 'reconstruction' in TERMS[method] and stride * features[index].shape[-1] != SIDE:
        raise InputError(f'the features at index {index} have a side of '
                         f'{features[index].shape[-1]} for an image of {SIDE}, and a decoder can '
                         f'only double: choose --method output-level; {STATISTICS}')
    logits_stride = 0
    if 'adversary' in TERMS[method]:
        try:
            logits_stride = max(1, SIDE // view.logits().shape[-1])
        except InputError:
            kind = type(model.decode_head).__name__
            raise InputError(
                f'model.decode_head {kind} gives several maps of logits in training, so an '
                'adversary does not know which to see: choose --method feature-level; '
                f'{STATISTICS}') from None
    return Measured(index, features[index].shape[1], stride, logits_stride)


def check_checkpoint(model: EncoderDecoder, checkpoint: str) -> None:
    """Check that a checkpoint is one of this model.

    Raises:
        InputError: If there is none, its number of classes differs, or keys or shapes do.
    """
    saved = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    classes = (saved.get('meta') or {}).get('dataset_meta', {}).get('classes')
    if classes and len(classes) != model.num_classes:
        raise InputError(
            f'{checkpoint} was trained on {len(classes)} classes where model.decode_head has '
            f'{model.num_classes}: give the config that it was trained with')
    check_fit(model, saved, checkpoint)


def method_of(measured: Measured, method: str) -> Tuple[dict, dict]:
    """The terms of a method and their optimizers, fitted to a network.

    Weights and rates are the paper's, from ``configs/_base_/methods/structseg.py``. The widths
    follow what that folder has for encoders of other widths: G is as wide as the power of two
    between one and two times its features, from the stride up to the paper's 512, and D a quarter
    of that. D's dilations are the paper's (1, 2, 3, 4), where the logits are at stride 8 or more;
    nearer to pixels these see too little, and they are (1, 6, 12, 18).
    """
    base = Config.fromfile(MIM / 'configs/_base_/methods/structseg.py')
    width = max(measured.stride, min(512, 2 ** measured.in_channels.bit_length()))
    base.terms.reconstruction.decoder.update(
        in_channels=measured.in_channels, in_index=measured.in_index, stride=measured.stride,
        channels=width)
    base.terms.adversary.discriminator.update(
        channels=max(1, width // 4),
        dilations=(1, 2, 3, 4) if measured.logits_stride >= 8 else (1, 6, 12, 18))
    return tuple({name: part[name].to_dict() for name in TERMS[method]}  # type: ignore[return-value]
                 for part in (base.terms, base.term_optimizers))


def unlabelled(pipeline: List[dict]) -> List[dict]:
    """A pipeline without what reads or needs labels; the random choices remain."""
    kept = []
    for step in pipeline:
        if any(word in step['type'] for word in ('Annotation', 'Label', 'GenerateEdge')):
            continue
        # RandomCrop's cat_max_ratio looks for crops that no class fills.
        kept.append({key: value for key, value in step.items() if key != 'cat_max_ratio'})
    return kept


def pipeline_of(dataset: dict) -> List[dict]:
    """The pipeline of a data set, through its wrappers."""
    while 'pipeline' not in dataset:
        inner = dataset.get('dataset') or next(iter(dataset.get('datasets') or ()), None)
        if inner is None:
            raise InputError(f'the {dataset.get("type")} of the config has no pipeline that target '
                             'images could share: give its data set one')
        dataset = inner
    return dataset['pipeline']


def target_dataset(folder: Path, pipeline: List[dict]) -> dict:
    """Config of the target's images, which go through a pipeline of the source's without labels."""
    return dict(type='ImageFolderDataset', data_prefix=dict(img_path=str(folder.absolute())),
                pipeline=unlabelled(pipeline))


def statistics_config(cfg: Config, folder: Path, batch_size: int) -> Config:
    """The config with the target's images, as inference sees them, as its statistics_dataloader."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if loader is None:
        raise InputError('the config has neither test_dataloader nor val_dataloader, whose sizes '
                         'the statistics are to be estimated at: set one')
    cfg = Config(cfg.to_dict())
    # The last batch may be too small for what the size is for.
    cfg.statistics_dataloader = dict(
        batch_size=batch_size, num_workers=loader.get('num_workers', 0), drop_last=batch_size > 1,
        dataset=target_dataset(folder, pipeline_of(loader.dataset)))
    return cfg


def adaptation(cfg: Config, base: str, checkpoint: str, folder: Path, method: str,
               measured: Measured) -> str:
    """The text of a config that adapts the network of another one.

    Args:
        cfg (Config): The supervised training's.
        base (str): Where it is, as the new one is to name it.
        checkpoint (str): Its weights.
        folder (Path): Images of the target.
        method (str): A key of ``TERMS``.
        measured (Measured): Of its network.

    Raises:
        InputError: If the config has no training, or one that counts epochs.
    """
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise InputError(f'the config has no {key}: give that of a supervised training')
    if 'max_iters' not in cfg.train_cfg:
        raise InputError(
            'train_cfg counts epochs, which two domains of different size do not share: set '
            "train_cfg=dict(type='IterBasedTrainLoop', max_iters=..., val_interval=...) and "
            'by_epoch=False in param_scheduler and hooks')
    terms, optimizers = method_of(measured, method)
    model: Dict[str, Any] = dict(type='AdvReconSegmentor', terms=terms)
    # The checkpoint holds what these would load first.
    if cfg.model.get('pretrained') is not None:
        model['pretrained'] = None
    if (cfg.model.backbone.get('init_cfg') or {}).get('type') == 'Pretrained':
        model['backbone'] = dict(init_cfg=None)
    loader = cfg.train_dataloader
    sampler = dict(type='InfiniteSampler', shuffle=True)
    target = dict({key: loader[key] for key in ('batch_size', 'num_workers', 'persistent_workers')
                   if key in loader}, sampler=sampler,
                  dataset=target_dataset(folder, pipeline_of(loader.dataset)))
    loop = dict(type='AdaptationTrainLoop')
    if 'by_epoch' in cfg.train_cfg:  # it takes no such key
        loop = dict(_replacing(cfg, 'train_cfg', loop), **{
            key: value for key, value in cfg.train_cfg.items() if key not in ('type', 'by_epoch')})
    sections: List[Tuple[str, Dict[str, Any]]] = [
        ('', dict(custom_imports=_imports(cfg))),
        (f'Measured: G decodes output {measured.in_index} of the encoder, {measured.in_channels} '
         f'channels at stride {measured.stride}' + (
             f'; D sees logits at stride {measured.logits_stride}'
             if measured.logits_stride else '') + ". The weights are the paper's, not tuned.",
         dict(model=model)),
        ('', dict(load_from=checkpoint)),
        ('Each part has its own optimizer; that of the segmentor is the supervised one.',
         dict(optim_wrapper=_optim_wrapper(cfg, optimizers))),
        ("The target's images, by the source's pipeline without labels. Check its sizes: a step "
         "that fits the source's shape, such as CenterCrop, may not fit the target's.",
         dict(target_dataloader=_replacing(cfg, 'target_dataloader', target))),
        ('', dict(train_cfg=loop)),
    ]
    if loader.get('sampler', {}).get('type') != 'InfiniteSampler':
        sections.append(('', dict(train_dataloader=dict(sampler=_replacing(
            loader, 'sampler', sampler)))))
    if isinstance(cfg.get('param_scheduler'), dict):
        sections.append(('A list, so that it is the schedule of each optimizer.',
                         dict(param_scheduler=[cfg.param_scheduler.to_dict()])))
    sections.append(('As configs/_base_/default_runtime.py.', _runtime(cfg)))
    sections.insert(0, (
        f'{method}: {Path(base).stem} adapts to {folder}. The schedule is that of the supervised '
        'training; as load_from has its result, lower rates and fewer iterations may do.',
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


def _runtime(cfg: Config) -> Dict[str, Any]:
    """What a training of this package needs and the base lacks."""
    base = Config.fromfile(MIM / 'configs/_base_/default_runtime.py', import_custom_modules=False)
    theirs = [hook.to_dict() for hook in cfg.get('custom_hooks') or []]
    hooks = [dict(type=hook) for hook in ('InputCheckHook', 'SyncBuffersHook')]
    saves = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    interval = saves.get('interval', base.default_hooks.checkpoint.interval)
    default_hooks = dict(
        checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=interval),
        summary=dict(type='SummaryHook'), panel=dict(type='PanelHook', interval=interval))
    keys = dict(
        runner_type=base.runner_type,
        model_wrapper_cfg=_replacing(cfg, 'model_wrapper_cfg', base.model_wrapper_cfg.to_dict()),
        default_hooks=default_hooks,
        custom_hooks=theirs + [hook for hook in hooks if hook not in theirs],
        log_processor=dict(by_epoch=False, num_digits=base.log_processor.num_digits))
    if cfg.get('randomness') is None:
        keys['randomness'] = base.randomness.to_dict()
    return keys


def assignment(key: str, value: Any) -> str:
    """Python text that sets a name to a value of a config."""
    return f'{key} = {_text(value, len(key) + 3, 0)}'


def _text(value: Any, column: int, indent: int) -> str:
    """A value as text that begins at a column, on one line if it fits."""
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):
        opening, closing, items = 'dict(', ')', [(f'{key}=', item) for key, item in value.items()]
    elif isinstance(value, dict):
        opening, closing, items = '{', '}', [(f'{key!r}: ', item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        opening, closing = '[]' if isinstance(value, list) else '()'
        items = [('', item) for item in value]
    else:
        return repr(value)
    if isinstance(value, tuple) and len(value) == 1:
        closing = ', )'
    inside = ', '.join(name + _text(item, 0, -1) for name, item in items)
    # A negative indent is for text that is to be on one line.
    if indent < 0 or column + len(opening + inside + closing) < WIDTH:
        return opening + inside + closing
    lines = [' ' * (indent + 4) + name + _text(item, indent + 4 + len(name), indent + 4)
             for name, item in items]
    return opening + '\n' + ',\n'.join(lines) + closing
