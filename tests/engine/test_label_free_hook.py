from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import RUNNERS

from tests.helpers.runs import runner_cfg


def test_the_best_model_without_labels(trees, tmp_path):
    """Its agreement is that of two passes by hand, and the checkpoint hook chooses by it."""
    cfg = runner_cfg(trees, tmp_path / 'work', 2, custom_hooks=[dict(type='LabelFreeHook')])
    cfg['train_cfg']['val_interval'] = 1
    cfg.update(val_cfg=dict(type='ValLoop'), val_evaluator=[], val_dataloader=dict(
        cfg['target_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False)))
    cfg['default_hooks']['checkpoint'].update(save_best='agreement_mIoU')
    runner = RUNNERS.build(Config(cfg))
    runner.train()
    scores = runner.val_loop.run()

    agreement = agreement_by_hand(runner.model.eval(), runner.val_dataloader)
    assert scores['agreement'] == pytest.approx(agreement, abs=0.0051)
    assert 0 < agreement < 100
    assert list(Path(cfg['work_dir']).glob('best_agreement_mIoU_iter_*.pth'))


def test_images_of_its_own(trees, tmp_path):
    """Of a loader's, evenly spread, beside the validation's own score."""
    cfg = runner_cfg(trees, tmp_path / 'work', 1)
    loader = dict(cfg['target_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False))
    cfg['custom_hooks'] = [dict(type='LabelFreeHook', dataloader=loader, images=2)]
    cfg['train_cfg']['val_interval'] = 1
    cfg.update(val_cfg=dict(type='ValLoop'), val_evaluator=dict(type='IoUMetric'), val_dataloader=(
        dict(cfg['train_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False))))
    runner = RUNNERS.build(Config(cfg))
    runner.train()
    scores = runner.val_loop.run()
    assert 'mIoU' in scores and scores == runner.val_loop.run()  # nothing is left of the first
    dataset = Runner.build_dataloader(loader).dataset
    assert len(dataset) > 2
    dataset.get_subset_([0, len(dataset) - 1])
    assert scores['agreement'] == pytest.approx(agreement_by_hand(
        runner.model.eval(), Runner.build_dataloader(dict(loader, dataset=dataset))), abs=0.0051)


def agreement_by_hand(model, loader):
    same = total = 0
    for batch in loader:
        images = torch.stack(batch['inputs']).float()
        images = (images - model.data_preprocessor.mean) / model.data_preprocessor.std
        with torch.no_grad():
            one, other = (
                model.encode_decode(x, [dict(img_shape=x.shape[2:])]).argmax(1)
                for x in (images, images.flip(-1)))
        same += (one == other.flip(-1)).sum().item()
        total += one.numel()
    return 100 * same / total
