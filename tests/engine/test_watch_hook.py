"""Each warning, provoked by a short training that goes wrong."""
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmseg.registry import RUNNERS

from structseg_mmseg.engine.hooks import WatchHook
from tests.helpers.data import write_image
from tests.helpers.models import model_cfg
from tests.helpers.runs import assert_equal_checkpoints, runner_cfg, train

RESIZE = [dict(type='Resize', scale=(48, 32), keep_ratio=False)]


def self_training(**kwargs):
    return dict(self_training=dict(type='SelfTraining', **kwargs))


def game(**kwargs):
    discriminator = dict(type='ASPPDiscriminator', channels=4)
    if kwargs.get('of') == 'features':
        discriminator['in_channels'] = 64
    return dict(adversary=dict(type='Adversary', discriminator=discriminator, **kwargs))


def cfg_of(trees, work_dir, terms, max_iters=8, interval=4, rates=(0.01, 1e-3), **options):
    """A training; the rates are the segmentor's and the discriminator's."""
    cfg = runner_cfg(trees, work_dir, max_iters, target_batch=2, augment=RESIZE,
                     model=dict(model_cfg(), terms=terms))
    cfg['param_scheduler'] = []
    cfg['custom_hooks'] = [dict(type='WatchHook', interval=interval)] * bool(interval)
    wrappers = cfg['optim_wrapper']
    for name, rate in zip(('segmentor', 'adversary'), rates):
        wrappers[name]['optimizer'].update(lr=rate, **(options if name == 'segmentor' else {}))
    for name in {'reconstruction', 'adversary'} - {*terms}:
        del wrappers[name]
    return cfg


def warnings(cfg):
    RUNNERS.build(Config(cfg)).train()
    (log, ) = Path(cfg['work_dir']).glob('*/*.log')
    return re.findall(r'WARNING - iteration (\d+): (.*)', log.read_text())


def unlike(trees, classes):
    """Make the domains unlike each other: of black and white, with two labels, one has no white."""
    for file in (trees[1] / 'leftImg8bit/train').rglob('*.png'):
        write_image(file, np.zeros((32, 64, 3), np.uint8))
    white = np.repeat(np.arange(64) > 31, 36).reshape(64, 36).T
    for file in (trees[0] / 'labels').iterdir():
        write_image(file, np.where(white, *classes).astype(np.uint8))
        write_image(trees[0] / 'images' / file.name, np.repeat(
            255 * white[..., None], 3, axis=2).astype(np.uint8))


WRONG = {
    'won': (game(of='features'), dict(max_iters=24, interval=8, rates=(0, 0.01)),
            r'discriminator of adversary has won: .* 8 iterations it took \d+ and \d+ percent.*; '
            r'lower optim_wrapper\.adversary\.optimizer\.lr'),
    'pull': (game(loss_weight=300.), {}, r'game of adversary pulls hard .*; lower model\.terms\.'
             r'adversary\.loss_weight'),
    'everything': (self_training(threshold=0.01), {}, r'sure of 100\.0 percent .*; raise '
                   r'model\.terms\.self_training\.threshold'),
    'nothing': (self_training(threshold=1.), {}, r'sure of 0\.0 percent .*; lower '
                r'model\.terms\.self_training\.threshold, or set load_from'),
    'gone': (dict(entropy=dict(type='MinEntropy', loss_weight=1.)), dict(max_iters=20),
             r'hardly any target pixel is taken for \w+ \([\d.]+ percent of the source, '
             r'0\.0 of the target\); if .*, lower the loss_weight of model\.terms\.entropy'),
    'fall': (self_training(threshold=0.5), dict(maximize=True),  # it unlearns
             r"pixel accuracy on the source's batches has fallen from [\d.]+ to [\d.]+; lower"),
}


@pytest.mark.parametrize('case', WRONG)
def test_what_goes_wrong_is_said_once(case, trees, tmp_path):
    terms, options, words = WRONG[case]
    if case in ('won', 'fall', 'gone'):
        unlike(trees, (7, 7) if case == 'fall' else (11, 7))  # ids of building and road
    said = [sentence for _, sentence in warnings(cfg_of(trees, tmp_path / 'run', terms, **options))]
    assert len([sentence for sentence in said if re.search(words, sentence)]) == 1, said


@pytest.mark.parametrize('terms', [
    game(loss_weight=1e-3), self_training(threshold=0., mean_over='valid')])
def test_a_watched_run_is_the_same_run(terms, trees, tmp_path):
    """Nor is it warned of a threshold of 0, which means that all pixels are to be taught."""
    watched, plain = (train(cfg_of(trees, tmp_path / str(interval), terms, interval=interval))[0]
                      for interval in (4, 0))
    assert_equal_checkpoints(watched, plain)
    log = next((tmp_path / '4').glob('*/*.log')).read_text()
    assert not re.search('iteration .*(game|discriminator|teacher|fallen)', log)


def test_a_validation_that_falls(tmp_path):
    log = tmp_path / 'log'
    runner = SimpleNamespace(
        iter=99, logger=MMLogger('watch', log_file=str(log)))
    hook = WatchHook()
    for score in (40., 52., 47.5, 46.9, 30.):
        hook.after_val_epoch(runner, dict(mIoU=score, aAcc=90.))
    hook.after_val_epoch(runner, dict(aAcc=1.))
    (line, ) = log.read_text().splitlines()
    assert 'iteration 100: the mIoU of the validation has fallen from 52.0 to 46.9; ' in line
