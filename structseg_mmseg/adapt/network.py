"""The network of a supervised training: whether a method goes with it, and its measures."""
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

import mmseg
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import import_modules_from_strings
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import check_fit
from structseg_mmseg.errors import InputError
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
SIDE = 128  # of the images that a network is measured on, in pixels: 4 positions at stride 32


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
