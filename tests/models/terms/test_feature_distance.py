"""What counts as a thing, and what is left of the loss where there is none."""
import pytest
import torch
from mmengine.optim import build_optim_wrapper

from structseg_mmseg.errors import InputError
from tests.helpers.models import NUM_CLASSES, build, domains, model_cfg, optim_cfg


def model_with(**options):
    return build(cfg=model_cfg(False, False, terms=dict(things=dict(
        dict(type='FeatureDistance', classes=(1, 3)), **options)))).train()


def test_a_position_is_a_things_from_the_ratio_on():
    labels = torch.zeros(1, 4, 16, dtype=torch.long)
    labels[0, :3, :4] = 1  # three quarters
    labels[0, :2, 4:8] = 1  # half, ...
    labels[0, 2:, 4:8] = 3  # ... and half another thing
    labels[0, :3, 8:12] = 2  # no thing
    labels[0, :, 12:] = 3
    labels[0, 3, 12:] = 255
    term = model_with().terms['things']
    assert term.things(labels, torch.zeros(1, 7, 1, 4).double()).tolist() == [[[1, 0, 0, 1]]]


def test_it_is_zero_without_things():
    model = model_with()
    data = domains(torch.Generator().manual_seed(0))  # random labels fill no position
    log = model.train_step(data, build_optim_wrapper(model, optim_cfg()))
    assert log['things.loss_source'] == 0
    assert all(p.isfinite().all() for p in model.parameters())


def test_classes_that_are_not_there_are_named():
    with pytest.raises(InputError, match=f'where the segmentation has {NUM_CLASSES}'):
        model_with(classes=(1, NUM_CLASSES))
