"""Other networks and other domains, by config alone: each trains, validates and resumes."""
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import RUNNERS

from structseg_mmseg.demo.street_worlds import draw_worlds
from structseg_mmseg.engine.checkpoint import load_from_local
from tests.helpers import ROOT
from tests.helpers.data import write_acdc, write_synthia
from tests.helpers.models import model_cfg

CONDITIONS = ('fog', 'night', 'rain', 'snow')
SIZE = (40, 64)


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Every data set in its published layout, GTA5 and Cityscapes as the demo draws them."""
    list(draw_worlds(tmp_path / 'demo', source=2, target=2, val=2))
    monkeypatch.setenv('GTA5', str(tmp_path / 'demo/game'))
    monkeypatch.setenv('CITYSCAPES', str(tmp_path / 'demo/video'))
    monkeypatch.setenv('SYNTHIA', str(write_synthia(tmp_path / 'synthia')))
    monkeypatch.setenv('ACDC', str(write_acdc(tmp_path / 'acdc', [
        f'{condition}/{split}' for condition in CONDITIONS for split in ('train', 'val')])))
    monkeypatch.setenv('DARK_ZURICH', str(write_acdc(tmp_path / 'dark_zurich', [
        'train/night', 'val/night'])))


def load(name, work_dir, iters, **kwargs):
    """A config as it is, but for sizes, lengths, weights from elsewhere and workers."""
    cfg = Config.fromfile(ROOT / f'configs/structseg/{name}.py')
    cfg.merge_from_dict(dict(work_dir=str(work_dir), log_level='WARNING',
                             train_cfg=dict(max_iters=iters, val_interval=1),
                             experiment_name=f'{work_dir.parent.name}_{work_dir.name}_{iters}',
                             default_hooks=dict(checkpoint=dict(interval=1)), **kwargs))
    cfg.model.backbone.init_cfg = None
    for key in ('train_dataloader', 'target_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[key]
        loader.update(num_workers=0, persistent_workers=False)
        for dataset in loader.dataset.get('datasets', [loader.dataset]):
            for step in dataset.pipeline:
                if step.type == 'Resize':
                    step.scale = SIZE[::-1]
    if 'r101' in name:  # the domains are what it is about
        model = model_cfg(test_cfg=cfg.model.test_cfg)
        model.decode_head.num_classes = cfg.model.decode_head.num_classes
        cfg.model = model
    for part in cfg.optim_wrapper.values():
        if isinstance(part, dict):
            part.optimizer.fused = False
    return Config(cfg.to_dict(), format_python_code=False)  # it takes seconds for lists of data


@pytest.mark.parametrize('name,targets,classes', [
    ('deeplabv2_r101_synthia2cs', 2, 16),
    ('deeplabv2_r101_cs2acdc', 8, 19),
    ('deeplabv2_r101_cs2acdc-night', 2, 19),
    ('deeplabv2_r101_cs2darkzurich', 2, 19),
    ('segformer_mit-b0_gta2cs', 2, 19),
    ('deeplabv3plus_r50_gta2cs', 2, 19),
])
def test_trains_and_resumes(roots, tmp_path, name, targets, classes):
    runner = RUNNERS.build(load(name, tmp_path / 'run', 1))
    runner.train()
    loaders = runner.train_loop.dataloaders
    assert len(loaders['target'].dataset) == targets
    scores = runner.message_hub.log_scalars
    assert len([key for key in scores if key.startswith('val/IoU.')]) == classes
    assert ('val/mIoU13' in scores) == ('synthia' in name)
    for loss in ('decode.loss_ce', 'reconstruction.loss_target', 'adversary.loss_target'):
        assert torch.isfinite(torch.tensor(scores[f'train/{loss}'].current())), loss
    runner = RUNNERS.build(load(name, tmp_path / 'run', 2, resume=True))
    before = load_from_local(str(tmp_path / 'run/iter_1.pth'))['state_dict']
    runner.train()
    assert runner.iter == 2
    after = runner.model.state_dict()
    for part in ('backbone', 'decode_head', 'terms.reconstruction', 'terms.adversary'):
        assert any(not torch.equal(value, after[key]) for key, value in before.items()
                   if key.startswith(part) and value.is_floating_point()), part
