"""Random mistakes in a config end in a started run or in one sentence. ``MUTATIONS=1000``: more."""
import os
import random

import mmseg.registry
import pytest
from mmengine.config import Config
from mmengine.registry import Registry
from mmseg.registry import RUNNERS

from structseg_mmseg.engine.config_check import _parts
from structseg_mmseg.errors import one_sentence_errors
from tests.engine.test_adaptation_train_loop import runner_cfg
from tests.engine.test_adaptation_train_loop import trees  # noqa: F401

OURS = {name for registry in vars(mmseg.registry).values() if isinstance(registry, Registry)
        for name, part in registry.module_dict.items()
        if part.__module__.startswith('structseg_mmseg.')}
WRONG = ('abc', '', '.', None, True, -1, 0, 0.5, 7, float('nan'), [], [None], [1, 'a'], {},
         dict(type='Nothing'))


def places(cfg):
    """The keys that are this package's, or that it checks: each with the dict that it is in."""
    owners = [part for _, part in _parts(cfg, '') if part['type'] in OURS]
    owners += [cfg['train_dataloader'], cfg['target_dataloader'], *cfg['param_scheduler'],
               *cfg['model']['steps']]
    for wrapper in (cfg['optim_wrapper'], *cfg['optim_wrapper'].values()):
        owners += [part for part in (wrapper, wrapper.get('optimizer'))
                   if isinstance(part, dict)] if isinstance(wrapper, dict) else []
    keys = [(owner, key) for owner in owners for key in owner]
    return keys + [(cfg, key) for key in cfg if key not in ('work_dir', 'experiment_name')]


def spoil(cfg, draw):
    """Change one of them: its value, its kind, its name or its place."""
    owner, key = draw.choice(places(cfg))
    value = owner.pop(key)
    changed = draw.choice([dict(), {key[:-1] or 'x': value}, {key: [value]}, {key: dict(a=value)},
                           *({key: wrong} for wrong in WRONG)])
    if isinstance(value, (int, float)) and draw.random() < 0.5:
        changed = {key: draw.choice([-value, 3 * value, value + 1])}
    draw.choice([owner, owner, owner, cfg]).update(changed)


@pytest.mark.parametrize('seed', range(int(os.environ.get('MUTATIONS', 30))))
def test_a_mistake_starts_or_is_one_sentence(trees, tmp_path, seed):  # noqa: F811
    cfg = runner_cfg(trees, tmp_path / 'work', 2, runner_type='AdaptationRunner')
    cfg['model']['steps'] = [dict(passes=['source']), dict(
        passes=['target', 'source'], parts=['segmentor', 'adversary'], times=1, when=None)]
    cfg['param_scheduler'].append(dict(type='LinearLR', start_factor=0.1, end=2, by_epoch=False))
    spoil(cfg, random.Random(seed))
    try:
        with one_sentence_errors():
            RUNNERS.build(Config(cfg)).train()
    except SystemExit as stop:
        assert stop.code.startswith('error: ') and '\n' not in stop.code
