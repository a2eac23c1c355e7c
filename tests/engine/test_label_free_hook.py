from pathlib import Path

import pytest
import torch
from mmengine.config import Config
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

    same = total = 0
    model = runner.model.eval()
    for batch in runner.val_dataloader:
        images = torch.stack(batch['inputs']).float()
        images = (images - model.data_preprocessor.mean) / model.data_preprocessor.std
        with torch.no_grad():
            one, other = (
                model.encode_decode(x, [dict(img_shape=x.shape[2:])]).argmax(1)
                for x in (images, images.flip(-1)))
        same += (one == other.flip(-1)).sum().item()
        total += one.numel()
    assert scores['agreement'] == pytest.approx(100 * same / total, abs=0.0051)
    assert 0 < same < total
    assert list(Path(cfg['work_dir']).glob('best_agreement_mIoU_iter_*.pth'))
