import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import ConcatDataset, Dataset

from structseg_mmseg.engine.hooks.summary_hook import summary
from tests.helpers.runs import runner_cfg


@pytest.fixture
def cfg(trees, tmp_path):
    cfg = runner_cfg(trees, tmp_path, 1, runner_type='AdaptationRunner', log_level='INFO')
    cfg['default_hooks']['summary'] = dict(type='SummaryHook')
    return Config(cfg)


def test_the_summary(cfg, tmp_path):
    """Every line that a reader checks before walking away from a long run."""
    runner = Runner.from_cfg(cfg)
    lines = []
    runner.logger.info = lambda text: lines.append(text)
    runner.train()
    lines, = (text.strip().splitlines() for text in lines if 'term adversary' in text)
    assert lines == summary(runner)[:-1] + [f'iterations 0 to 1; results in {tmp_path}']
    stack, source, target, classes, model, rec, adv, *optimizers, _ = lines
    assert 'torch ' in stack and 'CPU, 1 thread(s), 1 rank(s)' in stack.replace(';', ',')
    assert source.startswith('source: 5 images in ') and source.endswith('2 at a time')
    assert target.startswith('target: 3 images in ') and target.endswith('1 at a time')
    assert classes == '5 classes: road, sidewalk, building, wall, fence'
    parameters = sum(p.numel() for p in runner.model.decode_head.parameters()) / 1e6
    assert f'decode_head DeepLabV2Head ({parameters:.2f} M parameters)' in model
    assert rec.startswith('term reconstruction: Reconstruction, weight 0.001 (')
    assert adv.startswith('term adversary: Adversary, weight 0.3 (')
    assert optimizers == ['optimizer of segmentor: SGD, rate 0.01, 0.1',
                          'optimizer of reconstruction: Adam, rate 0.002',
                          'optimizer of adversary: Adam, rate 0.001']


class Wrapper(Dataset):
    """A data set of a data set, without a ``data_root`` of its own."""

    metainfo: dict = {}

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return 7


def test_wrapped_data_sets_and_an_unused_target(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    seeded = runner.train_loop.dataloaders['source'].dataset
    seeded.dataset = Wrapper(ConcatDataset([seeded.dataset]))
    root = runner.cfg.train_dataloader.dataset.data_root
    assert f'source: 7 images in {root}, 2 at a time' in summary(runner)
    seeded.dataset = Wrapper(None)
    del runner.train_loop.dataloaders['target']
    lines = summary(runner)
    assert 'source: 7 images, 2 at a time' in lines
    assert 'target: target_dataloader is not used, as no term requires it' in lines
