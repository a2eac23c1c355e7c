"""From the config of a supervised training to one that adapts its network to other images."""
import textwrap
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import cv2
import mmcv
import mmseg
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import import_modules_from_strings
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import DATASETS, MODELS
from rich.progress import track

from structseg_mmseg.datasets import IMAGES, VIDEOS, evenly_spread
from structseg_mmseg.datasets.seeded import seed_generators
from structseg_mmseg.engine.checkpoint import check_fit
from structseg_mmseg.errors import MIM, InputError
from structseg_mmseg.models.adaptation import Batch, Branches, Pass, View
from structseg_mmseg.models.segmentors import AdaptationSegmentor, AdvReconSegmentor

# The terms of each method that trains.
TERMS = {
    'self-training': ('self_training', ),
    'mic': ('self_training', 'masked'),
    'structseg': ('reconstruction', 'adversary'),
    'output-level': ('adversary', ),
    'feature-level': ('reconstruction', ),
}
METHODS = ('statistics', *TERMS)
OF_LOGITS = {'adversary', 'self_training'}  # terms that need one map of logits
STATISTICS = '--method statistics needs only batch normalisation'
LONG = 10_000  # iterations from which on self-training's published settings suit
FRAMES = 100  # of a video that is too short for one each second
SAMPLE = 4  # images of each domain whose sizes are looked at
SIDE = 128  # of the images that a network is measured on, in pixels: 4 positions at stride 32
SCORED = 100  # images of the target, evenly spread, in each score without labels
BEST = 'agreement'  # that of LabelFreeMetric which can be trusted most: docs/label_free_scores.md
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


@dataclass(frozen=True)
class Target:
    """Where a network is to adapt to.

    Attributes:
        folder (Path): The images.
        dataset (dict): Config of their data set, for training.
        side (int): The shorter side of images in training, of either domain, in pixels.
        note (str): How their pipeline came about.
    """

    folder: Path
    dataset: dict
    side: int
    note: str


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


def folder_of(target: Path, cache: Path) -> Path:
    """The folder of a target's images: as it is, or with the frames of a video.

    Args:
        target (Path): A folder or a video.
        cache (Path): The folder that frames are written to, in a folder of their own, once.

    Raises:
        InputError: If there is neither, it holds no image, or the video cannot be read to its end.
    """
    if target.is_file() and target.suffix.lower() in VIDEOS:
        folder = cache / f'{target.stem}_frames'
        if folder.exists():
            print(f'{folder} holds frames of {target} already: remove it to read them anew')
        else:
            write_frames(target, folder)
        return folder
    if not target.is_dir():
        raise InputError(f'there is no folder {target}, and no such video ({", ".join(VIDEOS)}): '
                         'give --target a folder of images or a video')
    # glob follows links to folders, as the data set does; rglob would not.
    files = glob(f'{escape(str(target))}/**', recursive=True)
    if not any(file.lower().endswith(IMAGES) for file in files):
        raise InputError(f'{target} holds no image ({", ".join(IMAGES)}): give another --target')
    return target


def write_frames(video: Path, folder: Path) -> None:
    """Write one frame a second, as its neighbours show the same, or more of a short video."""
    reader = mmcv.VideoReader(str(video))
    if not reader.opened or len(reader) < 1:
        raise InputError(f'{video} cannot be read as a video: restore the file')
    step = max(1, min(round(reader.fps), len(reader) // FRAMES))
    part = folder.with_name(f'{folder.name}.part')  # it gets its name once it is complete
    part.mkdir(parents=True, exist_ok=True)
    end = 0
    for index in track(range(len(reader)), f'reading every {step}. frame of {video.name}'):
        if not reader.vcap.grab():
            break
        if index % step == 0:
            cv2.imwrite(str(part / f'{index:06d}.jpg'), reader.vcap.retrieve()[1])
        end = index + 1
    # What a file says of its length may be wrong by some frames.
    if end < 0.9 * len(reader):
        raise InputError(f'{video} breaks off after {end} of {len(reader)} frames: restore the '
                         f'file, or give --target {part}, which has those before')
    part.rename(folder)


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
        _check_training(cfg)
        model = dict(model, type='AdaptationSegmentor')
    try:
        import_modules_from_strings(**cfg.get('custom_imports', dict(imports=None)))
        return MODELS.build({'data_preprocessor': cfg.get('data_preprocessor'), **model,
                             'pretrained': None})
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
    if OF_LOGITS & {*TERMS[method]}:
        if not issubclass(MODELS.get(head) or BaseDecodeHead, BaseDecodeHead):
            raise InputError(
                f'model.decode_head {head} classifies masks, not pixels, and so has no map of '
                f'logits, which {method} needs: choose --method feature-level; {STATISTICS}')
        if model['decode_head'].get('out_channels') == 1:
            raise InputError(
                f'model.decode_head {head} has out_channels=1, whose softmax tells {method} '
                f'nothing: choose --method feature-level, or two channels; {STATISTICS}')


def _check_training(cfg: Config) -> None:
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise InputError(f'the config has no {key}: give that of a supervised training')
    if 'max_iters' not in cfg.train_cfg:
        raise InputError(
            'train_cfg counts epochs, which two domains of different size do not share: set '
            "train_cfg=dict(type='IterBasedTrainLoop', max_iters=..., val_interval=...) and "
            'by_epoch=False in param_scheduler and hooks')


@torch.no_grad()
def measure(model: EncoderDecoder, method: str) -> Measured:
    """Measure a network in one forward pass of two random images, in training mode.

    G starts from the deepest features at stride 16 or less, of those that the decode head reads:
    at 32 they lie too far from pixels.

    Args:
        model (EncoderDecoder): As :func:`build` gives it; its running statistics change.
        method (str): A key of ``TERMS``; the decode head runs only if terms need its logits.

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
    if OF_LOGITS & {*TERMS[method]}:
        try:
            logits_stride = max(1, SIDE // view.logits().shape[-1])
        except InputError:
            kind = type(model.decode_head).__name__
            raise InputError(
                f'model.decode_head {kind} gives several maps of logits in training, where '
                f'{method} needs one: choose --method feature-level; {STATISTICS}') from None
    return Measured(index, features[index].shape[1], stride, logits_stride)


def load_checkpoint(model: EncoderDecoder, checkpoint: str) -> dict:
    """A checkpoint of this model.

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
    return saved


def method_of(measured: Measured, method: str, max_iters: int,
              side: int) -> Tuple[Dict[str, dict], Dict[str, dict]]:
    """The terms of a method and their optimizers, fitted to a network and a training.

    Weights and rates are the paper's, from ``configs/_base_/methods/structseg.py``. The widths
    follow what that folder has for encoders of other widths: G is as wide as the power of two
    between one and two times its features, from the stride up to the paper's 512, and D a quarter
    of that. D's dilations are the paper's (1, 2, 3, 4), where the logits are at stride 8 or more;
    nearer to pixels these see too little, and they are (1, 6, 12, 18).

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
    base.terms.adversary.discriminator.update(
        channels=max(1, width // 4),
        dilations=(1, 2, 3, 4) if measured.logits_stride >= 8 else (1, 6, 12, 18))
    return tuple({name: part[name].to_dict()  # type: ignore[return-value]
                  for name in TERMS[method] if name in part}
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


def fitted(pipeline: List[dict]) -> Tuple[List[dict], List[str]]:
    """A pipeline without what brings images of another size into its shape, and its types.

    ``CenterCrop``, and ``Pad`` to a size, are made for the source's images where a step that gives
    the network's size follows; where none does, they give it themselves.
    """
    left_out = [
        index for index, step in enumerate(pipeline)
        if (step['type'] == 'CenterCrop' or step['type'] == 'Pad' and step.get('size'))
        and any('Resize' in later['type'] or later['type'] == 'RandomCrop'
                for later in pipeline[index + 1:])]
    return ([step for index, step in enumerate(pipeline) if index not in left_out],
            [pipeline[index]['type'] for index in left_out])


def target_dataset(folder: Path, pipeline: List[dict]) -> dict:
    """Config of the target's images, which go through a pipeline of the source's without labels."""
    return dict(type='ImageFolderDataset', data_prefix=dict(img_path=str(folder.absolute())),
                pipeline=unlabelled(pipeline))


def inference_loader(cfg: Config, folder: Path) -> dict:
    """Config of a loader of the target's images as inference sees them.

    Raises:
        InputError: If the config has no loader for inference.
    """
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if loader is None:
        raise InputError('the config has neither test_dataloader nor val_dataloader, whose '
                         'pipeline target images could share: set one')
    return dict(batch_size=1, num_workers=loader.get('num_workers', 0),
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=target_dataset(folder, fitted(pipeline_of(loader.dataset))[0]))


def sizes_of(dataset: dict) -> Tuple[Set[tuple], Set[tuple]]:
    """Sizes (height, width) of some images, as they are and as the pipeline gives them."""
    images = DATASETS.build(dataset)
    seed_generators(0)  # its transforms may be random
    samples = [images[index] for index in evenly_spread(images, SAMPLE)]
    return ({sample['data_samples'].ori_shape[:2] for sample in samples},
            {tuple(sample['inputs'].shape[-2:]) for sample in samples})


def target_of(cfg: Config, folder: Path, method: str) -> Target:
    """Fit the source's pipeline to the target's images, by a few of both.

    Raises:
        InputError: If the method mixes images, and those of both domains have different sizes.
    """
    source = cfg.train_dataloader.dataset
    theirs, shapes = sizes_of(source)
    pipeline = pipeline_of(source)
    dataset, note = target_dataset(folder, pipeline), 'As the source\'s, without labels'
    if sizes_of(dict(dataset, pipeline=pipeline[:1] + pipeline[-1:]))[0] - theirs:
        pipeline, left_out = fitted(pipeline)
        dataset = target_dataset(folder, pipeline)
        if left_out:
            height, width = min(theirs)
            note += f', and without {" and ".join(left_out)}, made for its {width}x{height}'
    shapes |= sizes_of(dataset)[1]
    side = min(map(min, shapes))
    padded = (cfg.model.get('data_preprocessor') or {}).get('size')
    if 'self_training' in TERMS[method] and not padded and len(shapes) > 1:
        first, *_, other = sorted(shapes)
        raise InputError(
            f'the pipeline of train_dataloader gives images of {first[1]}x{first[0]} to '
            f'{other[1]}x{other[0]} pixels, and {method} mixes those of both domains: end it with '
            'a RandomCrop that all images are large enough for, or choose --method structseg')
    return Target(folder, dataset, side, note)


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
        said.append(f'Measured: D sees logits at stride {measured.logits_stride}.')
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
