"""What holds for images of any size, any batch, any choice of classes and any label."""
from itertools import product

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import nn

from structseg_mmseg.datasets import GTADataset
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.terms.region_adversary import Regions
from tests.helpers.models import batch, model_cfg, optim_cfg

# The same examples in every run; none is made smaller, which takes minutes.
EXAMPLES = settings(max_examples=10, deadline=None, derandomize=True, database=None,
                    phases=[Phase.explicit, Phase.generate],
                    suppress_health_check=[HealthCheck.too_slow])
# Of one side only: features of a single value are nothing to normalise (tests/test_errors.py).
SIZES = st.tuples(st.integers(1, 40), st.integers(9, 40)).flatmap(st.permutations)


def build(classes: int = 5, **kwargs) -> nn.Module:
    cfg = model_cfg(**kwargs)
    cfg.decode_head.num_classes = classes
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


@EXAMPLES
@given(source=SIZES, target=SIZES, size=st.integers(1, 3), classes=st.integers(1, 5),
       ignored=st.booleans())
def test_a_step(source, target, size, classes, ignored):
    """Losses are finite and G and D learn, also where no pixel has a label that counts."""
    model = build(classes)
    generator = torch.Generator().manual_seed(0)
    data = dict(source=batch(generator, *source, labelled=True, size=size),
                target=batch(generator, *target, labelled=False, size=size))
    for sample in data['source']['data_samples']:
        label = sample.gt_sem_seg.data
        label[label < 255] %= classes
        if ignored:
            label.fill_(255)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    logs = model.train().train_step(data, build_optim_wrapper(model, optim_cfg()))
    assert all(torch.isfinite(value) for value in logs.values()), logs
    if ignored:
        assert logs['decode.loss_ce'] == 0
    for term in model.terms:
        assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters()
                   if name.startswith(f'terms.{term}.')), term


@EXAMPLES
@given(size=SIZES, number=st.integers(1, 3), classes=st.integers(1, 5))
def test_inference(size, number, classes):
    """A batch gives what each of its images gives, and one window as large as all gives it, too."""
    model = build(classes).double().eval()
    images = torch.rand(number, 3, *size, dtype=torch.float64)
    meta = [dict(img_shape=size, ori_shape=size)] * number
    with torch.no_grad():
        whole = model.inference(images, meta)
        alone = torch.cat([model.inference(image[None], meta[:1]) for image in images])
        model.test_cfg.update(mode='slide', crop_size=size, stride=size)
        slid = model.inference(images, meta)
    assert whole.shape == (number, classes, *size)
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(slid, whole, rtol=0, atol=1e-10)


PIXEL = dict(type='PixelDiscriminator', in_channels=3, channels=(2, ))


@pytest.mark.parametrize('discriminator', [
    MODELS.build(dict(type='ASPPDiscriminator', in_channels=3, channels=2)), MODELS.build(PIXEL),
    MODELS.build(dict(type='FCDiscriminator', in_channels=3, channels=2)),
    MODELS.build(dict(type='PatchDiscriminator', channels=2)), Regions(PIXEL, (3, 2))
], ids=lambda discriminator: type(discriminator).__name__)
def test_a_discriminators_map_is_never_empty(discriminator):
    """Or its input is refused."""
    for height, width in product((1, 2, 3, 4, 5, 8, 23, 24, 31, 32, 33), repeat=2):
        try:
            with torch.no_grad():
                assert discriminator(torch.zeros(1, 3, height, width)).numel()
        except InputError as error:
            assert f'{width}x{height}' in str(error)
            assert min(height, width) < 32


@EXAMPLES
@given(st.lists(st.sampled_from(GTADataset.METAINFO['classes']), min_size=1, unique=True))
def test_every_id_has_a_place(classes):
    """Of any choice of classes, in any order: its index, or to be ignored."""
    dataset = GTADataset(metainfo=dict(classes=classes), lazy_init=True, test_mode=True)
    names = dict(zip(GTADataset.label_ids, GTADataset.METAINFO['classes']))
    expected = [classes.index(names[label_id]) if names.get(label_id) in classes else 255
                for label_id in range(GTADataset.num_label_ids)]
    assert dataset.label_lut.tolist() == expected
