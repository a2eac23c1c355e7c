"""Convert checkpoints of AdaptSegNet and code derived from it (ADVENT and others) to mmseg's keys.

    python tools/model_converters/adaptsegnet2mmseg.py IN OUT [--config CONFIG]

IN is one of their DeepLabv2 networks on ResNet-101, trained or as initialised. OUT is a checkpoint
of CONFIG, for tools/test.py or load_from. It keeps as many of the parallel classifiers as CONFIG's
heads have dilations: two are active in AdaptSegNet's code (see its as-released config), all four in
ADVENT's (--config configs/advent/deeplabv2_r101_gta2cs_advent.py).
"""
import argparse
import re
from typing import Dict, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.engine.checkpoint import (check_fit, load_from_local, load_safely,
                                               write_checkpoint)
from structseg_mmseg.errors import InputError, one_sentence_errors

CONFIG = 'configs/adaptsegnet/deeplabv2_r101_gta2cs_adaptsegnet-as-released.py'
HEADS = dict(layer5='auxiliary_head', layer6='decode_head')


def convert(theirs: Dict[str, Tensor], model: nn.Module, name: str
            ) -> Tuple[Dict[str, Tensor], Dict[str, str]]:
    """Rename a state dict to the keys of ``model``; also returns why other keys are left out.

    Args:
        theirs (dict): A state dict of theirs; an initialisation has no ``layer6``.
        model (nn.Module): The model to load it into.
        name (str): The file, for messages.

    Raises:
        InputError: If a key is unknown or missing, or a shape does not fit.
    """
    # Some are wrapped once, as Scale.conv1.weight or module.conv1.weight.
    theirs = {re.sub(r'^(Scale|module)\.', '', key): value for key, value in theirs.items()}
    trained = any(key.startswith('layer6.') for key in theirs)
    state, left_out = {}, {}
    for key, value in theirs.items():
        ours, reason = _ours(key, model, trained)
        if ours is None and reason is None:
            raise InputError(f'{name} holds {key}, which no DeepLabv2 on ResNet-101 of '
                             "AdaptSegNet's family has: give such a checkpoint or initialisation")
        if reason is None:
            state[ours] = value
        else:
            left_out[key] = reason
    part = model if trained else nn.ModuleDict(dict(backbone=model.backbone))
    for key in part.state_dict():  # torch counts batches since 0.4.1
        if key.endswith('num_batches_tracked') and not key.startswith('terms.'):
            state.setdefault(key, torch.tensor(0))
    check_fit(part, state, name)
    return state, left_out


def _ours(key: str, model: nn.Module, trained: bool) -> Tuple[Optional[str], Optional[str]]:
    """The model's key and None, None and the reason to leave it out, or None and None."""
    if re.match(r'(conv1|bn1|layer[1-4])\.', key):
        return f'backbone.{key}', None
    if key.startswith('fc.'):
        return None, 'a classifier of whole images'
    found = re.fullmatch(r'(layer[56])\.conv2d_list\.(\d)\.(weight|bias)', key)
    if not found:
        return None, None
    layer, index, kind = found.groups()
    if not trained:
        return None, "the initialisation's own classifier"
    head = getattr(model, HEADS[layer], None)
    if head is None:
        return None, f'the config has no {HEADS[layer]}'
    if int(index) >= len(head.conv_seg):
        return None, f"the config's {HEADS[layer]} has {len(head.conv_seg)} dilations"
    return f'{HEADS[layer]}.conv_seg.{index}.{kind}', None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', metavar='in')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--config', default=CONFIG, help=f'default: {CONFIG}')
    args = parser.parse_args()
    load_safely()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    checkpoint = load_from_local(args.checkpoint, map_location='cpu')
    state, left_out = convert(checkpoint.get('state_dict', checkpoint), model, args.checkpoint)
    for key, reason in left_out.items():
        print(f'left out: {key} ({reason})')
    write_checkpoint(state, args.out)
    print(f'{args.out} has {len(state)} keys of {args.config}')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
