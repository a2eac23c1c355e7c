"""Export a trained segmentor: for plain mmseg, for torch.export and for ONNX.

    python tools/export.py CONFIG CHECKPOINT OUT_DIR [--size HEIGHT WIDTH]

The tool writes to OUT_DIR

- ``model.pth`` and ``model.py``, a checkpoint without the modules that only training uses and a
  config of a plain ``EncoderDecoder``, for mmseg's ``MMSegInferencer`` and ``init_model``. They
  need this package only if backbone, neck or head are from it.
- ``model.pt2`` (torch.export) and ``model.onnx``. Both take ``image``, float32 (N, 3, H, W) in RGB
  from 0 to 255, and return ``logits``, float32 (N, classes, H, W). The preprocessor's normalisation
  is part of them, the test pipeline's ``Resize`` is not. N, H and W are free.

Each file is verified at a second input size.
"""
import argparse
import logging
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import save_checkpoint
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import load_from_local, load_safely
from structseg_mmseg.errors import InputError, one_sentence_errors
from structseg_mmseg.export import export, inference_state, plain_config

PACKAGE = 'structseg_mmseg'
SEGMENTORS = ('AdaptationSegmentor', 'AdvReconSegmentor', 'EncoderDecoder')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('out_dir', type=Path)
    parser.add_argument('--size', type=int, nargs=2, default=(256, 512),
                        metavar=('HEIGHT', 'WIDTH'),
                        help='size of the image to trace the network with (default: 256 512)')
    args = parser.parse_args()
    load_safely()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    if cfg.model.type not in SEGMENTORS:
        raise InputError(f'{args.config} trains a {cfg.model.type}: give a config whose model is '
                         f'{", ".join(SEGMENTORS[:-1])} or {SEGMENTORS[-1]}')
    checkpoint = load_from_local(str(args.checkpoint), map_location='cpu')
    if 'ema_state_dict' in checkpoint:  # EMAHook saves the averaged weights as the state dict
        print('exporting the averaged weights')
    plain = plain_config(cfg)
    model = MODELS.build(plain.model).eval()
    model.load_state_dict(inference_state(
        cfg, checkpoint, str(args.checkpoint), model.state_dict()))

    args.out_dir.mkdir(parents=True, exist_ok=True)
    weights = args.out_dir / 'model.pth'
    dataset = checkpoint.get('meta', {}).get('dataset_meta') or {}
    dataset = {key: dataset[key] for key in ('classes', 'palette') if key in dataset}
    meta = dict(dataset_meta=dataset) if dataset else {}  # then mmseg guesses
    save_checkpoint(dict(meta=meta, state_dict=model.state_dict()), str(weights))
    sizes = [path.stat().st_size / 1e6 for path in (args.checkpoint, weights)]
    print(f'{args.checkpoint} has {sizes[0]:.1f} MB, {weights} {sizes[1]:.1f}')
    parts = sorted({type(part).__name__ for part in model.modules()
                    if type(part).__module__.startswith(f'{PACKAGE}.')})
    others = [name for name in cfg.get('custom_imports', {}).get('imports', ()) if name != PACKAGE]
    if parts:
        print(f'{", ".join(parts)} are of {PACKAGE}, which model.py imports')
    if parts or others:
        plain.custom_imports = dict(imports=[*([PACKAGE] if parts else []), *others])
    plain.dump(str(args.out_dir / 'model.py'))
    logging.disable(logging.WARNING)  # of the exporters, about what they skip and fold
    export(model, args.out_dir, args.size)
    print(f'wrote {args.out_dir}')


if __name__ == '__main__':
    with one_sentence_errors():
        main()
