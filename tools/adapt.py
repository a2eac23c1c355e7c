"""Adapt your own model to your own images: write the config, or re-estimate the statistics.

    python -m structseg_mmseg adapt CONFIG --checkpoint CKPT --target FOLDER
        [--method statistics|structseg|output-level|feature-level] [--out my_adaptation.py]
        [--train]

CONFIG is that of a supervised training with mmseg 1.x, by its path or its name in mmseg's zoo, CKPT
its weights, FOLDER holds images without labels, in folders of their own or not. The tool measures
the network in one forward pass, writes a config that inherits CONFIG, and checks it as
tools/check.py does. With ``--train`` it goes on to train in work_dirs/OUT, tests on CONFIG's own
validation data before and after, and draws predictions for images of FOLDER, before and after.

``--method statistics`` trains nothing: it re-estimates the running statistics of batch
normalisation on FOLDER, and writes a checkpoint for CONFIG, OUT with the suffix ``.pth``.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import RUNNERS

from structseg_mmseg import adapt
from structseg_mmseg.engine.adabn import estimate_checkpoint
from structseg_mmseg.engine.checkpoint import last_sound_checkpoint, load_safely
from structseg_mmseg.errors import InputError, one_sentence_errors

TOOLS = Path(__file__).parent
DRAWN = 6  # images of the target, evenly spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help="a path, or a name in mmseg's zoo")
    parser.add_argument('--checkpoint', required=True, help='weights of the supervised training')
    parser.add_argument('--target', type=Path, required=True, help='folder of images')
    parser.add_argument('--method', choices=adapt.METHODS, default='structseg',
                        help='(default: %(default)s)')
    parser.add_argument('--out', type=Path, default=Path('my_adaptation.py'),
                        help='config to write (default: %(default)s)')
    parser.add_argument('--train', action='store_true',
                        help='go on to train, test on the source and draw target images')
    args = parser.parse_args()
    out = args.out.with_suffix('.pth' if args.method == 'statistics' else '.py')
    if out.exists():
        raise InputError(f'{out} exists: remove it, or give another --out')
    load_safely()
    path, cfg = adapt.load_config(args.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    images = adapt.images_of(args.target)
    model = adapt.build(cfg, args.method)
    adapt.check_checkpoint(model, args.checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    work_dir = Path('work_dirs', out.stem)
    if args.method == 'statistics':
        estimate(cfg, args.target, args.checkpoint, str(out))
        print(f'wrote {out}, a checkpoint for {path}')
    else:
        measured = adapt.measure(model, args.method)
        out.write_text(adapt.adaptation(
            cfg, os.path.relpath(path, out.parent), os.path.abspath(args.checkpoint), args.target,
            args.method, measured))
        print(f'wrote {out}, which adapts {path}', flush=True)
        path, cfg = out, Config.fromfile(out)
        run('check.py', out)
    if not args.train:
        return
    if cfg.get('val_dataloader') is None:
        raise InputError('the config has no val_dataloader to test before and after on: set it, or '
                         'leave --train away')
    before, after = args.checkpoint, str(out)
    was = score(cfg, before, work_dir / 'before')  # first: what is amiss shows before a training
    if args.method != 'statistics':
        run('train.py', out, '--work-dir', work_dir)
        after = last_sound_checkpoint(str(work_dir))
    now = score(cfg, after, work_dir / 'after')
    draw(path, before, after, images, work_dir)
    print(f'mIoU on the validation data of {args.config}: {was:.2f} before, {now:.2f} after '
          f'({now - was:+.2f})')
    print(f'{work_dir}/target: target images, before, after')


def run(tool: str, *args: object) -> None:
    """Run a tool in a process of its own, and end with it if it fails; it says why."""
    code = subprocess.run([sys.executable, str(TOOLS / tool), *map(str, args)]).returncode
    if code:
        sys.exit(code)


def estimate(cfg: Config, folder: Path, checkpoint: str, out: str) -> None:
    """Write the checkpoint with the statistics of a folder's images.

    A head that pools an image to one value a channel cannot normalise a single image; then it takes
    two at a time, which must be of one size.
    """
    try:
        estimate_checkpoint(adapt.statistics_config(cfg, folder, 1), checkpoint, out)
    except ValueError as error:
        if 'Expected more than 1 value per channel' not in str(error):
            raise
        try:
            estimate_checkpoint(adapt.statistics_config(cfg, folder, 2), checkpoint, out)
        except AssertionError:
            raise InputError(
                f'the network pools an image to one value a channel, so that {folder} is read by '
                'two images at a time, and they differ in size: give images of one size') from error


def score(cfg: Config, checkpoint: str, folder: Path) -> float:
    """mIoU of a checkpoint on the source's validation data, in percent."""
    cfg = Config(cfg.to_dict())
    cfg.work_dir, cfg.experiment_name = str(folder), str(folder).replace('/', '_')
    cfg.load_from, cfg.resume = checkpoint, False
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = dict(type='TestLoop')
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    results = runner.test()
    if 'mIoU' not in results:
        raise InputError("val_evaluator gives no mIoU: set iou_metrics=['mIoU'] of mmseg's "
                         'IoUMetric')
    return results['mIoU']


def draw(config: Path, before: str, after: str, images: List[Path], work_dir: Path) -> None:
    """Draw images with both predictions side by side, into ``work_dir/target``."""
    chosen = np.linspace(0, len(images) - 1, min(DRAWN, len(images))).round().astype(int)
    with tempfile.TemporaryDirectory() as folder:
        for number, index in enumerate(chosen):
            Path(folder, f'{number}_{images[index].name}').symlink_to(images[index].absolute())
        for name, checkpoint in (('before', before), ('after', after)):
            run('infer.py', config, checkpoint, folder, '--out-dir', work_dir / name)
        (work_dir / 'target').mkdir(exist_ok=True)
        for image in sorted(Path(folder).iterdir()):
            tiles = [cv2.imread(str(image)), *(
                cv2.imread(str(work_dir / name / 'overlays' / f'{image.stem}.png'))
                for name in ('before', 'after'))]
            cv2.imwrite(str(work_dir / 'target' / f'{image.stem}.png'), cv2.hconcat(tiles))


if __name__ == '__main__':
    with one_sentence_errors():
        main()
