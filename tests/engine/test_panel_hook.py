from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch

from structseg_mmseg.engine.hooks.panel_hook import TITLE, panel
from tests.helpers.models import ABLATIONS, model_cfg, normed_cfg
from tests.helpers.runs import assert_equal_checkpoints, runner_cfg, train

TILES = {  # image, prediction and entropy are in all; the truth in the source's
    'source-only': dict(source=4), 'target-statistics': dict(source=4, target=3),
    'feature-level': dict(source=5, target=4), 'output-level': dict(source=5, target=4),
    'full': dict(source=6, target=5), 'mcd': dict(source=4, target=4)}


def reversed_views() -> dict:
    """Two heads with batch normalisation, which run in a reversed view, and a term beside."""
    model = normed_cfg(False, False)
    model['auxiliary_head'] = deepcopy(model['decode_head'])
    model['terms'] = dict(discrepancy=dict(type='Discrepancy'), entropy=dict(type='MinEntropy'))
    return model


def cfg_of(ablation, trees, work_dir, interval, make=model_cfg, **kwargs):
    model = make(*ABLATIONS[ablation]) if ablation in ABLATIONS else make()
    model['decode_head'].update(dropout_ratio=0.5)  # draws random numbers as it decodes
    cfg = runner_cfg(trees, work_dir, 3, model=model, **kwargs)
    cfg['custom_hooks'] = [dict(type='InputCheckHook'), dict(type='PanelHook', interval=interval)]
    cfg['visualizer'] = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
    return cfg


@pytest.mark.parametrize('make,ablation', [
    *((model_cfg, ablation) for ablation in ABLATIONS), (normed_cfg, 'feature-level'),
    (reversed_views, 'mcd')])
def test_a_run_that_is_drawn_is_the_same_run(make, ablation, trees, tmp_path):
    parts = dict(parts=(False, False)) if ablation == 'source-only' else {}
    drawn, plain = (train(cfg_of(ablation, trees, tmp_path / str(interval), interval, make,
                                 **parts))[0] for interval in (2, 100))
    assert_equal_checkpoints(drawn, plain)
    assert not list((tmp_path / '100').rglob('vis_image/*'))
    pictures = {path.name: cv2.imread(str(path))
                for path in (tmp_path / '2').rglob('vis_image/*.png')}
    sizes = dict(source=(36, 64), target=(32, 64))
    assert {name: picture.shape for name, picture in pictures.items()} == {
        f'{domain}_2.png': (sizes[domain][0] + TITLE, tiles * sizes[domain][1], 3)
        for domain, tiles in TILES[ablation].items()}


def test_the_tiles():
    """Each at its place, in its colours."""
    palette = np.array([[10, 20, 30], [200, 100, 0]], np.uint8)
    image = torch.zeros(3, 4, 6)
    image[0] = 1  # blue, as channels are BGR
    logits = torch.zeros(2, 4, 6)
    logits[1, :, 3:] = 50
    truth = torch.full((4, 6), 255)
    truth[:2] = 1
    got = panel(dict(image=image, logits=logits, truth=truth, map=torch.ones(1, 2, 3)), palette,
                rgb=False)[TITLE:]
    image, prediction, truth, shown, entropy = np.split(got, 5, axis=1)
    assert (image == [0, 0, 255]).all()
    assert (prediction[:, :3] == palette[0]).all() and (prediction[:, 3:] == palette[1]).all()
    assert (truth[:2] == palette[1]).all() and (truth[2:] == 0).all()
    hot, cold = ([128, 0, 0], [0, 0, 128])  # of COLORMAP_JET, in RGB
    assert (shown == hot).all() and (entropy[:, :3] == hot).all() and (entropy[:, 3:] == cold).all()


def test_it_goes_with_compilation(trees, tmp_path):
    cfg = cfg_of('full', trees, tmp_path, 2, compile=dict(backend='aot_eager'))
    train(cfg)
    assert len(list(tmp_path.rglob('vis_image/*.png'))) == 2
