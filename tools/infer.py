"""Segment images or videos: mmseg's inferencer, with coloured masks and overlays as files.

    python tools/infer.py CONFIG CHECKPOINT INPUT [--out-dir DIR] [--opacity 0.5] [--device cpu]

INPUT is an image, a folder of images or a video. DIR gets ``masks/NAME`` and ``overlays/NAME``:
PNG files for images, MP4 files for a video.
"""
import argparse
from pathlib import Path
from typing import Iterator, Optional, Tuple

import cv2
import mmcv
import numpy as np
from mmengine.utils import track_iter_progress
from mmseg.apis import MMSegInferencer
from torch import nn

from structseg_mmseg.engine.checkpoint import check_fit
from structseg_mmseg.errors import InputError, one_sentence_errors

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')


class StrictInferencer(MMSegInferencer):
    """mmseg's inferencer, less its leniency towards weights of another model."""

    def __init__(self, model: str, weights: str, **kwargs) -> None:
        self.weights = weights
        super().__init__(model, weights, **kwargs)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict, cfg: dict) -> None:
        check_fit(model, checkpoint, self.weights)
        super()._load_weights_to_model(model, checkpoint, cfg)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('input', type=Path, help='an image, a folder of images or a video')
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'),
                        help='folder to write to (default: %(default)s)')
    parser.add_argument('--opacity', type=float, default=0.5, help='of the mask in the overlays')
    parser.add_argument('--device', help='e.g. cpu or cuda:0 (default: a GPU if there is one)')
    args = parser.parse_args()
    frames, number, fps = open_input(args.input)

    inferencer = StrictInferencer(args.config, args.checkpoint, device=args.device)
    inferencer.show_progress = False
    palette = np.array(inferencer.model.dataset_meta['palette'], np.uint8)[:, ::-1]  # BGR

    writers = {}
    for name, image in track_iter_progress((frames, number)):
        sample = inferencer(image, return_datasamples=True)
        mask = palette[sample.pred_sem_seg.data[0].cpu().numpy()]
        overlay = cv2.addWeighted(image, 1 - args.opacity, mask, args.opacity, 0)
        for kind, picture in (('masks', mask), ('overlays', overlay)):
            path = args.out_dir / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if fps is None:
                mmcv.imwrite(picture, str(path))
                continue
            if kind not in writers:
                writers[kind] = cv2.VideoWriter(
                    str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, picture.shape[1::-1])
            writers[kind].write(picture)
    for writer in writers.values():
        writer.release()
    print(f'\nwrote {args.out_dir}/masks and {args.out_dir}/overlays')


def open_input(path: Path) -> Tuple[Iterator[Tuple[str, np.ndarray]], int, Optional[float]]:
    """Frames with the names of their outputs, how many there are, and a video's frame rate."""
    if path.suffix.lower() in VIDEOS and path.is_file():
        video = mmcv.VideoReader(str(path))
        if not video.opened or not len(video):
            raise InputError(f'{path} cannot be read as a video: check the file')
        return ((f'{path.stem}.mp4', frame) for frame in video), len(video), video.fps
    if path.is_dir():
        paths = sorted(p for p in path.rglob('*') if p.suffix.lower() in IMAGES)
        if not paths:
            raise InputError(f'{path} holds no image ({", ".join(IMAGES)}): give another folder')
        root = path
    elif path.is_file():
        paths, root = [path], path.parent
    else:
        raise InputError(f'there is no {path}: give an image, a folder of images or a video')
    frames = ((str(p.relative_to(root).with_suffix('.png')), read(p)) for p in paths)
    return frames, len(paths), None


def read(path: Path) -> np.ndarray:
    image = mmcv.imread(str(path))
    if image is None:
        raise InputError(f'{path} cannot be read as an image: restore the file')
    return image


if __name__ == '__main__':
    with one_sentence_errors():
        main()
