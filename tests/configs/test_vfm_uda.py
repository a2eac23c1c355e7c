"""VFM-UDA's numbers: rates, their schedule, and margins that go with the image."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmseg.registry import MODELS, TRANSFORMS

from tests.helpers import ROOT


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'configs/vfm_uda/vit-b_dinov2_gta2cs_{name}.py')


def test_the_schedule_jumps():
    """From 1 to 0.9625 at iteration 1,500; all else is two straight lines."""
    cfg = load('vfm-uda')
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.)
    schedulers = [PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
                  for scheduler in cfg.param_scheduler]
    factors = []
    for _ in range(40_000):
        factors.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    expected = np.concatenate([np.linspace(1e-3, 1, 1500), np.linspace(1, 0, 40_001)[1500:-1]])
    assert factors[1500] == pytest.approx(0.9625, abs=1e-12)
    np.testing.assert_allclose(factors, expected, atol=1e-11)


@pytest.mark.parametrize('name,decay', [('vfm-uda', 1.), ('vfm-uda_layer-decay', 0.9)])
def test_rates(name, decay):
    """By the root of a batch of 8; the encoder's a tenth; block by block. All weights decay."""
    import tests.helpers.timm  # noqa: F401
    cfg = load(name)
    cfg.optim_wrapper.segmentor.optimizer.fused = False
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {id(p): group for group in wrapper['segmentor'].optimizer.param_groups
              for p in group['params']}
    for key, p in model.named_parameters():
        if not key.startswith('terms'):
            _, _, part, block, *_ = key.split('.') + [''] * 2
            below = 11 - int(block) if part == 'blocks' else 12
            expected = 5e-5 * 8**0.5 * (1 if key.startswith('decode_head') else 0.1 * decay**below)
            assert groups[id(p)]['lr'] == pytest.approx(expected, rel=1e-12), key
            assert groups[id(p)]['weight_decay'] == 0.01


@pytest.mark.parametrize('size', [(1024, 2048), (980, 1700)])
def test_margins_go_with_the_image(size):
    """On an image that is white where it is to be trusted: 3 % off, at the bottom 25."""
    height, width = size
    image = np.zeros((*size, 3), np.uint8)
    top, bottom, side = int(0.03 * height), int(0.25 * height), int(0.03 * width)
    image[top:height - bottom, side:width - side] = 255
    np.random.seed(0)
    _, margins, resize, *others = load('vfm-uda').target_dataloader.dataset.pipeline
    steps = [TRANSFORMS.build(step)
             for step in (margins, dict(resize, interpolation='nearest'), *others)]
    shares = []
    for _ in range(8):
        results = dict(img=image, img_shape=size, ori_shape=size)
        for step in steps:
            results = step(results)
        trusted = results['data_samples'].trusted.data
        assert results['inputs'].shape[1:] == trusted.shape[1:] == (1024, 1024)
        assert 'gt_sem_seg' not in results['data_samples']
        assert torch.equal(results['inputs'][:1] > 0, trusted)
        shares.append(trusted.double().mean())
    assert len(set(shares)) > 4  # crops differ
