"""Convert checkpoints of DAFormer, HRDA, MIC and their kin (mmseg 0.16) to mmseg 1's keys.

    python tools/model_converters/daformer2mmseg.py IN OUT [--config CONFIG]

IN is one of their networks: MiT with DAFormer's decoder, or DeepLabv2 on ResNetV1c, on one scale or
on HRDA's two. OUT is a checkpoint of CONFIG, for tools/test.py or load_from. It has the student
and, where CONFIG has such terms, the teacher (tested and exported with
model.test_cfg.model='teacher') and the ImageNet copy.
"""
import argparse
import re
from typing import Dict, List, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.engine.checkpoint import (check_fit, load_from_local, load_safely,
                                               write_checkpoint)
from structseg_mmseg.errors import InputError, one_sentence_errors
from structseg_mmseg.models.backbones import TwoScales
from structseg_mmseg.models.terms import Distillation, PseudoLabels

CONFIG = 'configs/daformer/daformer_mit-b5_gta2cs_daformer.py'
NETWORKS = dict(model='student', ema_model='teacher', imnet_model='ImageNet copy')
RAMP = 1000  # averages, after which their teacher's rate is constant
# Within a stage of MiT, whose number both have; within a decoder.
MIT = {
    r'patch_embed\.proj\.': '0.projection.',
    r'patch_embed\.norm\.': '0.norm.',
    r'norm\.': '2.',
    r'block\.(\d+)\.attn\.q\.': r'1.\1.attn.attn.in_proj_',
    r'block\.(\d+)\.attn\.proj\.': r'1.\1.attn.attn.out_proj.',
    r'block\.(\d+)\.mlp\.fc1\.': r'1.\1.ffn.layers.0.',
    r'block\.(\d+)\.mlp\.dwconv\.dwconv\.': r'1.\1.ffn.layers.1.',
    r'block\.(\d+)\.mlp\.fc2\.': r'1.\1.ffn.layers.4.',
    r'block\.(\d+)\.(norm[12]|attn\.(?:sr|norm))\.': r'1.\1.\2.',
}
HEAD = {
    r'embed_layers\.(\d)\.proj\.': r'embed_layers.\1.',
    r'fuse_layer\.(aspp_modules|bottleneck)\.': r'\1.',
    r'fuse_layer\.(conv|bn)\.': r'bottleneck.\1.',  # of HRDA's attention
    r'aspp_modules\.(\d)\.conv\.': r'conv_seg.\1.',  # DeepLabv2's classifiers
    r'conv_seg\.': 'conv_seg.',
}


def convert(checkpoint: dict, model: nn.Module, name: str) -> Tuple[Dict[str, Tensor], List[str]]:
    """Rename a checkpoint's keys to those of ``model``; also returns what is left out, and why.

    Args:
        checkpoint (dict): A checkpoint of theirs, or its state dict.
        model (nn.Module): The model to load it into.
        name (str): The file, for messages.

    Raises:
        InputError: If a key is unknown or missing, or a shape does not fit.
    """
    networks: Dict[str, Dict[str, Tensor]] = {}
    left_out = []
    for key, value in checkpoint.get('state_dict', checkpoint).items():
        if key.startswith('mic.'):
            left_out.append(f'{key} (a second teacher, of the masked images alone)')
            continue
        # Trained alone, without a target, a network has no prefix; trained on several GPUs, two.
        network, rest = re.fullmatch(r'(?:(model|ema_model|imnet_model)\.)?(?:module\.)?(.*)',
                                     key).groups()
        networks.setdefault(network or 'model', {})[rest] = value
    known, shapes = places(model), {key: value.shape for key, value in model.state_dict().items()}
    two_scales = isinstance(model.backbone, TwoScales)
    averages = checkpoint.get('meta', {}).get('iter', RAMP)
    state = {}
    for network, theirs in networks.items():
        if network not in known:
            left_out.append(f'{network} (the config has no term for the {NETWORKS[network]})')
            continue
        prefix, counter = known[network]
        for key, value in rename(theirs, name).items():
            part, _, rest = key.partition('.')
            if network == 'imnet_model':
                if part != 'backbone':  # its head is not used
                    continue
                key = f'1.{rest}' if two_scales else rest
            elif part == 'backbone' and two_scales:
                key = f'backbone.context.1.{rest}'
            if len(shapes.get(prefix + key, ())) == value.dim() + 2:
                value = value[..., None, None]  # a linear layer, here a 1x1 convolution
            state[prefix + key] = value
        if counter is not None:
            state[counter] = torch.tensor(averages if network == 'ema_model' else True)
    check_fit(model, state, name)
    return state, left_out


def places(model: nn.Module) -> Dict[str, Tuple[str, Optional[str]]]:
    """For each of their networks that ``model`` has, a prefix of keys, and the key of what its term
    knows of it: how many averages were taken, whether there is a copy."""
    found: Dict[str, Tuple[str, Optional[str]]] = dict(model=('', None))
    for key, term in getattr(model, 'terms', {}).items():
        if isinstance(term, PseudoLabels):
            found.setdefault('ema_model', (f'terms.{key}.teacher.', f'terms.{key}.steps'))
        elif isinstance(term, Distillation):
            found.setdefault('imnet_model', (f'terms.{key}.encoder.', f'terms.{key}.copied'))
    return found


def rename(theirs: Dict[str, Tensor], name: str) -> Dict[str, Tensor]:
    """A network's state dict under mmseg's names, linear layers as they are."""
    ours = {}
    for key, value in theirs.items():
        if '.attn.kv.' in key:
            continue  # with the queries
        if '.attn.q.' in key:
            parts = (key, key.replace('.attn.q.', '.attn.kv.'))
            value = torch.cat([theirs[part] for part in parts if part in theirs])
        new = _ours(key)
        if new is None:
            raise InputError(f'{name} holds {key}, which no MiT with DAFormer\'s decoder and no '
                             'DeepLabv2 on ResNetV1c has: give a checkpoint of DAFormer, HRDA or '
                             'MIC with such a network')
        ours[new] = value
    return ours


def _ours(key: str) -> Optional[str]:
    """The key in mmseg, or None if it is of none of these networks."""
    stage = re.fullmatch(r'backbone\.(patch_embed|block|norm)([1-4])(\..*)', key)
    if stage:
        kind, number, rest = stage.groups()
        return _renamed(f'{kind}{rest}', MIT, f'backbone.layers.{int(number) - 1}.')
    if re.match(r'backbone\.(stem|layer[1-4])\.', key):
        return key
    head = re.fullmatch(r'(decode_head\.(?:head\.|scale_attention\.)?)(.*)', key)
    return _renamed(head[2], HEAD, head[1]) if head else None


def _renamed(key: str, names: Dict[str, str], prefix: str) -> Optional[str]:
    for theirs, ours in names.items():
        if re.match(theirs, key):
            return prefix + re.sub(theirs, ours, key, count=1)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', metavar='in')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--config', default=CONFIG, help=f'default: {CONFIG}')
    args = parser.parse_args()
    load_safely()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = MODELS.build(cfg.model)  # MiT computes while it is built: not on the meta device
    checkpoint = load_from_local(args.checkpoint, map_location='cpu')
    state, left_out = convert(checkpoint, model, args.checkpoint)
    for line in left_out:
        print(f'left out: {line}')
    write_checkpoint(state, args.out)
    print(f'{args.out} has {len(state)} keys of {args.config}')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
