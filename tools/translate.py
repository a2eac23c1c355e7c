"""Translate a config's source images to the target's style by a trained CycleGAN.

    python tools/translate.py CONFIG CHECKPOINT OUT [--device cpu]

OUT has the layout of the source root, with images of the same names and sizes and copies of the
labels, so it can replace the root in any config. An image is translated whole, at the scale of the
training pipeline's ``Resize``. A second call resumes where the first one stopped.
"""
import argparse
import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from rich.progress import track
from torch import nn

from structseg_mmseg.datasets import LabelIdsDataset
from structseg_mmseg.engine.checkpoint import check_fit, load_from_local, load_safely
from structseg_mmseg.errors import InputError, one_sentence_errors
from structseg_mmseg.models.translators import CycleGAN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('out', type=Path, help='a new folder, or that of an interrupted call')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='e.g. cpu or cuda:0 (default: a GPU if there is one)')
    args = parser.parse_args()
    load_safely()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    model = load_translator(cfg, args.config, args.checkpoint).to(args.device)
    transforms = [t for t in cfg.train_dataloader.dataset.pipeline
                  if t.type in ('LoadImageFromFile', 'Resize')]
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=transforms))
    claim(args.out, Path(dataset.data_root), args.checkpoint, transforms)
    for index in track(range(len(dataset)), 'translating'):
        translate(model, dataset, index, args.out)
    print(f'wrote {args.out}')


def load_translator(cfg: Config, config: Path, checkpoint: Path) -> nn.Module:
    """The model of a config with the weights of a checkpoint."""
    model = MODELS.build(cfg.model)
    if not isinstance(model, CycleGAN):
        raise InputError(f'{config} trains no translator: give one whose model is a CycleGAN')
    weights = load_from_local(str(checkpoint))
    check_fit(model, weights, str(checkpoint))
    model.load_state_dict(weights.get('state_dict', weights))
    return model.eval()


def claim(out: Path, root: Path, checkpoint: Path, transforms: list) -> None:
    """Refuse a folder with other contents, and note in it what it will contain."""
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f'{out} is or lies in the source root {root}: give a folder outside')
    note = out / 'translated_by.txt'
    content = f'{hashlib.sha256(checkpoint.read_bytes()).hexdigest()}\n{transforms}\n'
    if not out.exists() or not any(out.iterdir()):
        write(note, content.encode())
    elif not note.exists() or note.read_text() != content:
        raise InputError(f'{out} holds something else than images by this checkpoint at this '
                         'scale: give a new folder')


@torch.inference_mode()
def translate(model: nn.Module, dataset: LabelIdsDataset, index: int, out: Path) -> None:
    """Write the label of a sample, then its translated image, unless the image exists."""
    info = dataset.get_data_info(index)
    label, image = (out / os.path.relpath(info[key], dataset.data_root)
                    for key in ('seg_map_path', 'img_path'))
    if image.exists():
        return
    results = dataset.prepare_data(index)
    tensor = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
    translated = model.test_step(dict(inputs=[tensor]))[0].permute(1, 2, 0).cpu().numpy()
    height, width = results['ori_shape']
    translated = cv2.resize(translated, (width, height), interpolation=cv2.INTER_CUBIC)
    write(label, Path(info['seg_map_path']).read_bytes())
    write(image, cv2.imencode(image.suffix, translated)[1].tobytes())


def write(path: Path, content: bytes) -> None:
    """Write a file that gets its name once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.part')
    part.write_bytes(content)
    os.replace(part, path)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
