"""Test a checkpoint in every variant on every labelled split, into one JSON file.

    python tools/analysis_tools/evaluate.py CONFIG CHECKPOINT --json FILE
        [--cfg-options KEY=VALUE ...]

FILE holds ``{variant: {split: {metric: value}}}``, metrics in percent, the scores that need no
labels (``LabelFreeMetric``) among them. The variants are the ``last`` weights and, after a training
with mmengine's ``EMAHook``, the ``averaged`` ones; if the config has a ``statistics_dataloader``,
also each ``+ target statistics``, with BatchNorm running statistics re-estimated on its images,
without labels. The splits are ``test`` (``test_dataloader``) and, if ``val_dataloader`` differs,
``dev``. mmengine logs to a folder named like FILE without its suffix.
"""
import argparse
import json
import os
from pathlib import Path
from typing import Dict

from mmengine.config import Config, DictAction
from mmengine.runner import Runner, TestLoop
from mmengine.runner.checkpoint import CheckpointLoader

from structseg_mmseg.engine.adabn import build_statistics_dataloader, estimate_statistics
from structseg_mmseg.engine.checkpoint import check_fit, load_safely
from structseg_mmseg.errors import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--json', type=Path, required=True, help='file to write')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args()
    load_safely()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    # A folder of its own, as the runner dumps this config, which is not the training's.
    cfg.work_dir = str(args.json.with_suffix(''))
    cfg.load_from, cfg.resume = None, False
    # EMAHook would test its own copy of the weights.
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook.type != 'EMAHook']
    if not any(hook.type == 'LabelFreeHook' for hook in hooks):
        hooks.append(dict(type='LabelFreeHook'))
    cfg.custom_hooks = hooks
    runner = Runner.from_cfg(cfg)
    splits = dict(test='test')
    if cfg.get('val_dataloader') not in (None, cfg.test_dataloader):
        splits = dict(dev='val', test='test')
    loops = {split: runner.build_test_loop(dict(
        cfg.test_cfg, dataloader=cfg[f'{key}_dataloader'], evaluator=cfg[f'{key}_evaluator']))
        for split, key in splits.items()}

    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
    variants = dict(last=checkpoint.get('state_dict', checkpoint))
    if 'ema_state_dict' in checkpoint:  # EMAHook saves the averaged weights as the state dict
        variants = dict(last=checkpoint['ema_state_dict'], averaged=checkpoint['state_dict'])
    results = {}
    for variant, state in variants.items():
        state = {key.removeprefix('module.'): value for key, value in state.items()
                 if key != 'steps'}  # the average's counter
        check_fit(runner.model, state, args.checkpoint)
        runner.model.load_state_dict(state, strict=False)  # what only training uses may be absent
        results[variant] = test(runner, loops)
        if cfg.get('statistics_dataloader') is not None:
            estimate_statistics(runner.model, build_statistics_dataloader(cfg))
            results[f'{variant} + target statistics'] = test(runner, loops)
    # It gets its name once it is complete.
    part = Path(f'{args.json}.part')
    part.write_text(json.dumps(results, indent=2))
    os.replace(part, args.json)


def test(runner: Runner, loops: Dict[str, TestLoop]) -> Dict[str, Dict[str, float]]:
    """Metrics of the runner's model in its present state, by split."""
    results = {}
    for split, loop in loops.items():
        runner._test_loop = loop  # hooks look there
        results[split] = {key: round(float(value), 2) for key, value in runner.test().items()}
    return results


if __name__ == '__main__':
    with one_sentence_errors():
        main()
