"""A long run stays as it began. ``SOAK=20000`` makes it one."""
import os
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmseg.registry import RUNNERS

from tests.helpers import ROOT
from tests.helpers.runs import runner_cfg

ITERATIONS = int(os.environ.get('SOAK', 96))
INTERVAL = ITERATIONS // 16
PAGE = os.sysconf('SC_PAGE_SIZE') / 1e6


class Probe(Hook):
    """Memory in MB and open files, after all else that is done in an interval."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.memory, self.files = [], []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if self.every_n_train_iters(runner, INTERVAL):
            self.memory.append(PAGE * int(Path('/proc/self/statm').read_text().split()[1]))
            self.files.append(len(list(Path('/proc/self/fd').iterdir())))


def test_nothing_grows(trees, tmp_path):
    """With every hook on, validation, the best checkpoint and averaged weights."""
    cfg = runner_cfg(trees, tmp_path, ITERATIONS, workers=1)
    runtime = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py').to_dict()
    hooks = runtime['default_hooks']
    hooks['checkpoint'].update(interval=INTERVAL, save_best='mIoU')
    hooks['panel'].update(interval=INTERVAL)
    runtime['custom_hooks'].append(dict(type='EMAHook'))
    cfg.update({key: runtime[key] for key in (
        'runner_type', 'default_hooks', 'custom_hooks', 'vis_backends', 'visualizer')})
    cfg['train_cfg']['val_interval'] = INTERVAL
    val = cfg['target_dataloader']['dataset']
    val = dict(val, data_prefix=dict(val['data_prefix'], seg_map_path='gtFine/train'),
               pipeline=cfg['train_dataloader']['dataset']['pipeline'])
    cfg.update(val_cfg=dict(type='ValLoop'), val_evaluator=dict(type='ClassIoUMetric'),
               val_dataloader=dict(batch_size=1, num_workers=1, persistent_workers=True,
                                   sampler=dict(type='DefaultSampler', shuffle=False), dataset=val))
    runner = RUNNERS.build(Config(cfg))
    probe = Probe()
    runner.register_hook(probe)
    runner.train()
    print('MB', np.round(probe.memory, 1), 'open files', probe.files)
    warm = len(probe.memory) // 2
    assert max(probe.files[warm:]) == probe.files[warm]  # what tests before it left may close
    # A graph that is kept is 1 MB.
    assert max(probe.memory[warm:]) - min(probe.memory[warm:]) < 10
    assert len(list(tmp_path.glob('*.pth'))) == 3  # two and the best
