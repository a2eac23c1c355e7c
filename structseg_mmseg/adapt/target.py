"""The images that a network is to adapt to, and their way through the source's pipeline."""
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import List, Set, Tuple

import cv2
import mmcv
from mmengine.config import Config
from mmseg.registry import DATASETS
from rich.progress import track

from structseg_mmseg.datasets import IMAGES, VIDEOS, evenly_spread
from structseg_mmseg.datasets.seeded import seed_generators
from structseg_mmseg.errors import InputError

from .network import TERMS

FRAMES = 100  # of a video that is too short for one each second
SAMPLE = 4  # images of each domain whose sizes are looked at


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
