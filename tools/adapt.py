"""Adapt your own model to your own images: re-estimate the statistics, write a config, train.

    python -m structseg_mmseg adapt CONFIG --checkpoint CKPT --target FOLDER|VIDEO
        [--method self-training|mic|structseg|output-level|feature-level|statistics]
        [--out my_adaptation.py] [--train]

CONFIG is that of a supervised training with mmseg 1.x, by its path or its name in mmseg's zoo, CKPT
its weights, FOLDER holds images without labels, in folders of their own or not. Of a VIDEO, a frame
each second is written to a folder beside OUT. The tool measures the network in one forward pass,
writes a config that inherits CONFIG, and checks it as tools/check.py does.

Then, whatever the method, it re-estimates the running statistics of batch normalisation on the
images, without training, into OUT with the suffix ``.pth``, a checkpoint for CONFIG; for
``--method statistics`` that is all. ``--train`` goes on to train in work_dirs/OUT. The last thing
printed is a table, a line for each step: mIoU on CONFIG's own validation data, and the agreement
of predictions for target images with those for their mirror images. Where a checkpoint of the
training agrees more than the last one, it has a line, too. Predictions of each step
for some images are drawn into work_dirs/OUT/target.
"""
import argparse
import os
from pathlib import Path
from typing import Dict

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import DATASETS, RUNNERS

from structseg_mmseg import adapt
from structseg_mmseg.check import check, report
from structseg_mmseg.datasets import UnreadableInputError, evenly_spread
from structseg_mmseg.engine.adabn import build_statistics_dataloader, write_estimated
from structseg_mmseg.engine.checkpoint import last_sound_checkpoint, load_safely
from structseg_mmseg.engine.hooks import LabelFreeHook
from structseg_mmseg.errors import InputError, one_sentence_errors, sentence_of

DRAWN = 6  # images of the target, evenly spread
OPACITY = 0.5  # of their predictions
SOURCE, TARGET = 'mIoU on the source', 'agreement on the target'
LOST = 2.  # points of mIoU on the source that ask for a remedy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help="a path, or a name in mmseg's zoo")
    parser.add_argument('--checkpoint', required=True, help='weights of the supervised training')
    parser.add_argument('--target', type=Path, required=True, help='folder of images, or a video')
    parser.add_argument('--method', choices=adapt.METHODS, default='self-training',
                        help='(default: %(default)s)')
    parser.add_argument('--out', type=Path, default=Path('my_adaptation.py'),
                        help='config to write (default: %(default)s)')
    parser.add_argument('--train', action='store_true', help='go on to train')
    args = parser.parse_args()
    out, estimated = args.out.with_suffix('.py'), args.out.with_suffix('.pth')
    trains = args.method != 'statistics'
    for file in [out] * trains + [estimated]:
        if file.exists():
            raise InputError(f'{file} exists: remove it, or give another --out')
    load_safely()
    path, cfg = adapt.load_config(args.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    folder = adapt.folder_of(args.target, out.parent)
    seen = adapt.inference_loader(cfg, folder)
    model = adapt.build(cfg, args.method)
    saved = adapt.load_checkpoint(model, args.checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    if trains:
        target = adapt.target_of(cfg, folder, args.method)
        out.write_text(adapt.adaptation(
            cfg, os.path.relpath(path, out.parent), os.path.abspath(args.checkpoint), target,
            args.method, adapt.measure(model, args.method)))
        print(f'wrote {out}, which adapts {path}; target images: {target.note}', flush=True)
        report(check(Config.fromfile(out)))

    work_dir = Path('work_dirs', out.stem)
    steps = Steps(cfg, seen, saved, work_dir)
    steps.add('before', args.checkpoint)
    why_not = estimate(model, saved, seen, str(estimated))
    if not why_not:
        print(f'wrote {estimated}, a checkpoint for {path}')
        steps.add('statistics', str(estimated))
    elif not trains:
        raise InputError(why_not)
    else:
        print(f'no statistics are re-estimated: {why_not}')
    if trains and args.train:
        del model
        torch.cuda.empty_cache()
        train(out, work_dir)
        last = last_sound_checkpoint(str(work_dir))
        steps.add('trained', last)
        for best in work_dir.glob(f'best_{adapt.BEST}_*.pth'):
            if not best.stem.endswith(Path(last).stem):
                steps.add('agrees most', str(best))
    print(steps.table())
    print(f'{work_dir}/target: target images, and predictions of: {", ".join(steps.scores)}')


def estimate(model: EncoderDecoder, saved: dict, seen: dict, out: str) -> str:
    """Write the checkpoint with the statistics of the target's images, or say why there is none.

    A head that pools an image to one value a channel cannot normalise a single image; then it takes
    two at a time, which must be of one size.
    """
    for batch_size in (1, 2):
        # The last batch may be too small for what the size is for.
        loader = build_statistics_dataloader(Config(dict(statistics_dataloader=dict(
            seen, batch_size=batch_size, drop_last=batch_size > 1))))
        try:
            write_estimated(model, saved, loader, out)
            break
        except UnreadableInputError:
            raise
        except InputError as error:
            return str(error)
        except ValueError as error:
            if 'Expected more than 1 value per channel' not in str(error):
                raise
        except AssertionError:
            return ('the network pools an image to one value a channel, so that the target is read '
                    'by two images at a time, and they differ in size: give images of one size')
    return ''


def train(config: Path, work_dir: Path) -> None:
    """Train a config in a folder, as tools/train.py does."""
    cfg = Config.fromfile(config)
    cfg.work_dir = str(work_dir)
    RUNNERS.build(cfg).train()


class Steps:
    """The steps of an adaptation: their scores, and pictures of the target.

    Args:
        cfg (Config): The supervised training's.
        seen (dict): Config of a loader of the target's images, as inference sees them.
        saved (dict): The supervised training's checkpoint, which may know the classes' colours.
        work_dir (Path): A folder to write to.

    Attributes:
        scores (dict[str, dict]): Of each step, by their names.
    """

    def __init__(self, cfg: Config, seen: dict, saved: dict, work_dir: Path) -> None:
        self.runner = tester(cfg, work_dir / 'tests')
        self.scores: Dict[str, Dict[str, float]] = {}
        meta = saved.get('meta', {}).get('dataset_meta') or {}
        self.has_source = cfg.get('val_dataloader') is not None
        try:
            if self.has_source:
                meta = self.runner.test_dataloader.dataset.metainfo
        except (InputError, OSError) as error:  # such as a zoo's model without its data
            self.has_source = False
            print(f'no step is scored on the source: {sentence_of(error)}')
        number = self.runner.model.num_classes
        colours = np.random.default_rng(0).integers(0, 256, (number, 3))
        self.palette = np.array(meta.get('palette') or colours, np.uint8)[:, ::-1]  # BGR
        self.target = LabelFreeHook(seen, adapt.SCORED)
        images = DATASETS.build(seen['dataset'])
        self.samples = [images[index] for index in evenly_spread(images, DRAWN)]
        self.tiles = [[mmcv.imread(sample['data_samples'].img_path)] for sample in self.samples]
        self.folder = work_dir / 'target'

    @torch.no_grad()
    def add(self, step: str, checkpoint: str) -> None:
        """Score a checkpoint, and draw its predictions beside those of the steps before."""
        self.runner.load_checkpoint(checkpoint)
        of_source = {SOURCE: self.score()} if self.has_source else {}
        self.runner.model.eval()
        self.scores[step] = {
            **of_source, TARGET: self.target.scores_of_loader(self.runner)[adapt.BEST]}
        for number, (sample, tiles) in enumerate(zip(self.samples, self.tiles)):
            (predicted, ) = self.runner.model.test_step(pseudo_collate([sample]))
            mask = self.palette[predicted.pred_sem_seg.data[0].cpu().numpy()]
            tiles.append(cv2.addWeighted(tiles[0], 1 - OPACITY, mask, OPACITY, 0))
            name = Path(sample['data_samples'].img_path).stem
            mmcv.imwrite(cv2.hconcat(tiles), str(self.folder / f'{number}_{name}.png'))

    def score(self) -> float:
        """mIoU on the source of the weights that the runner has, in percent."""
        results = self.runner.test()
        if 'mIoU' not in results:
            raise InputError("val_evaluator gives no mIoU: set iou_metrics=['mIoU'] of mmseg's "
                             'IoUMetric')
        return results['mIoU']

    def table(self) -> str:
        """All scores, one step a line, with differences from the first, and what they ask for."""
        before = next(iter(self.scores.values()))
        lines = [f'{"":<12}' + ''.join(f'{name:>26}' for name in before)]
        for step, scores in self.scores.items():
            lines.append(f'{step:<12}' + ''.join(
                f'{f"{score:.2f} ({score - before[name]:+.2f})":>26}'
                for name, score in scores.items()))
        lost = before.get(SOURCE, 0) - scores.get(SOURCE, 0)
        if lost > LOST:
            lines.append(f"{step} costs {lost:.1f} points on the source: if it must stay as good, "
                         'keep a checkpoint for each, or set model.batch_statistics='
                         "'per_domain', and test it with model.test_cfg.statistics='source'")
        return '\n'.join(lines)


def tester(cfg: Config, work_dir: Path) -> Runner:
    """A runner that tests checkpoints on the source's validation data."""
    cfg = Config(cfg.to_dict())
    cfg.work_dir, cfg.experiment_name = str(work_dir), str(work_dir).replace('/', '_')
    cfg.load_from, cfg.resume, cfg.log_level = None, False, 'WARNING'
    cfg.test_dataloader, cfg.test_evaluator = cfg.get('val_dataloader'), cfg.get('val_evaluator')
    cfg.test_cfg = dict(type='TestLoop') if cfg.test_dataloader else None
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.visualizer = dict(type='SegLocalVisualizer', vis_backends=[])  # others write elsewhere
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
