"""Segment images or videos by mmseg's inferencer, and write coloured masks and overlays.

    python tools/infer.py CONFIG CHECKPOINT INPUT [--out-dir DIR] [--opacity 0.5] [--device cpu]
        [--batch-size N] [--workers N]

INPUT is an image, a folder of images or a video. The tool writes ``masks/NAME`` and
``overlays/NAME`` to DIR, as PNG for images and as MP4 for a video. Consecutive images of equal size
form a batch; other threads read and write meanwhile.
"""
import argparse
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Optional, Tuple, Union

import cv2
import mmcv
import numpy as np
from mmseg.apis import MMSegInferencer
from rich.progress import track
from torch import nn

from structseg_mmseg.datasets import IMAGES, VIDEOS
from structseg_mmseg.engine.checkpoint import check_fit, load_safely
from structseg_mmseg.errors import InputError, one_sentence_errors


class StrictInferencer(MMSegInferencer):
    """mmseg's inferencer, which refuses weights of another model."""

    def __init__(self, model: str, weights: str, **kwargs) -> None:
        self.weights = weights
        super().__init__(model, weights, **kwargs)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict, cfg: dict) -> None:
        check_fit(model, checkpoint, self.weights)
        super()._load_weights_to_model(model, checkpoint, cfg)

    def predict(self, samples: Iterable[Tuple[str, np.ndarray, dict]],
                batch_size: int) -> Iterator[Tuple[str, np.ndarray, np.ndarray]]:
        """Segment images, consecutive ones of equal size in a batch.

        Args:
            samples (Iterable[tuple]): Names, images (H, W, 3) and outputs of the pipeline.
            batch_size (int): Largest size of a batch.

        Yields:
            tuple: Name, image and classes (H, W) of each, in order.
        """
        for _, equals in groupby(samples, key=lambda sample: sample[1].shape):
            for chunk in self._get_chunk_data(equals, batch_size):
                names, images, data = zip(*chunk)
                # Logits, the larger part of the output, are not kept.
                yield from zip(names, images, [
                    sample.pred_sem_seg.data[0].cpu().numpy()
                    for sample in self.forward(self.collate_fn(data))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('input', type=Path, help='an image, a folder of images or a video')
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'),
                        help='folder to write to (default: %(default)s)')
    parser.add_argument('--opacity', type=float, default=0.5, help='of the mask in the overlays')
    parser.add_argument('--device', help='e.g. cpu or cuda:0 (default: a GPU if there is one)')
    parser.add_argument('--batch-size', type=int, default=1,
                        help='consecutive images of equal size that form a batch '
                             '(default: %(default)s)')
    parser.add_argument('--workers', type=int, default=2,
                        help='threads that read, and as many that write (default: %(default)s)')
    args = parser.parse_args()
    for option, value in (('--batch-size', args.batch_size), ('--workers', args.workers)):
        if value < 1:
            raise InputError(f'{option} is {value}: give 1 or more')
    frames, number, fps = open_input(args.input)

    load_safely()
    inferencer = StrictInferencer(args.config, args.checkpoint, device=args.device)
    palette = np.array(inferencer.model.dataset_meta['palette'], np.uint8)[:, ::-1]  # BGR
    writers = {}

    def prepare(frame: Tuple[str, Union[Path, np.ndarray]]) -> Tuple[str, np.ndarray, dict]:
        name, image = frame
        image = read(image) if isinstance(image, Path) else image
        return name, image, inferencer.pipeline(image)

    def write(prediction: Tuple[str, np.ndarray, np.ndarray]) -> None:
        name, image, classes = prediction
        mask = palette[classes]
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

    samples = ahead(prepare, frames, args.workers)
    # One thread keeps a video's frames in order.
    written = ahead(write, inferencer.predict(samples, args.batch_size),
                    args.workers if fps is None else 1)
    for _ in track(written, 'segmenting', number):
        pass
    for writer in writers.values():
        writer.release()
    print(f'wrote {args.out_dir}/masks and {args.out_dir}/overlays')


def ahead(function: Callable, items: Iterable, workers: int) -> Iterator[Any]:
    """Results of a function for items, in order, computed a few items ahead by threads."""
    # Executor.map reads all items at once; its bound is new in Python 3.14.
    with ThreadPoolExecutor(workers) as pool:
        pending = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def open_input(path: Path) -> Tuple[
        Iterator[Tuple[str, Union[Path, np.ndarray]]], int, Optional[float]]:
    """Files or frames with the names of their outputs, their number, and a video's frame rate."""
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
    frames = ((str(p.relative_to(root).with_suffix('.png')), p) for p in paths)
    return frames, len(paths), None


def read(path: Path) -> np.ndarray:
    image = mmcv.imread(str(path))
    if image is None:
        raise InputError(f'{path} cannot be read as an image: restore the file')
    return image


if __name__ == '__main__':
    with one_sentence_errors():
        main()
