"""Masks in closed form, and whose labels masked images have."""
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.structures import SegDataSample

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch
from structseg_mmseg.models.terms import MaskedConsistency
from tests.helpers.models import NUM_CLASSES, build, domains, model_cfg, optim_cfg


def mask(ratio: float, block: int = 8, size=(64, 96)) -> torch.Tensor:
    term = MaskedConsistency(num_classes=NUM_CLASSES, ratio=ratio, block=block)
    samples = [SegDataSample(metainfo=dict(seed=(index, ))) for index in range(50)]
    return term.mask(Batch(torch.zeros(50, 3, *size), samples))


def test_blocks_are_seen_or_hidden_whole():
    blocks = mask(0.7).unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert blocks.shape == (50, 1, 8, 12, 64)
    assert torch.equal(blocks.amin(-1), blocks.amax(-1))
    # Of 4,800 blocks; three standard deviations.
    assert abs(blocks.mean() - 0.3) < 3 * (0.3 * 0.7 / 4800)**0.5
    assert len({tuple(one.flatten().tolist()) for one in blocks.amax(-1)}) == 50


@pytest.mark.parametrize('ratio,share', [(0., 1.), (1., 0.)])
def test_nothing_and_all_is_hidden(ratio, share):
    assert (mask(ratio) == share).all()


def test_a_block_may_be_larger_than_the_image():
    assert all(one.min() == one.max() for one in mask(0.5, block=500))


def model_with(**terms):
    return build(cfg=model_cfg(False, False, terms=terms)).train()


def test_alone_it_has_a_teacher_of_its_own_and_hidden_pixels_are_the_mean():
    model = model_with(teacher=dict(type='PseudoLabels', threshold=0.), masked=dict(
        type='MaskedConsistency', block=8, jitter=None))
    wrapper = build_optim_wrapper(model, optim_cfg())
    batches = model.prepare(domains(torch.Generator().manual_seed(0)), wrapper)
    target, masked = batches['target'], batches['masked']
    assert torch.equal(masked.labels, target.labels) and (masked.weights == 1).all()
    seen = masked.inputs == target.inputs
    assert (masked.inputs[~seen] == 0).all() and 0.1 < seen.double().mean() < 0.6
    log = model.train_step(domains(torch.Generator().manual_seed(0)), wrapper)
    assert log['masked.loss_masked'] > 0


@pytest.mark.parametrize('images', ['source', 'both'])
def test_images_of_the_source_have_their_own_labels_and_count_whole(images):
    """Of both domains, an image each of batches of two, as in MIC from clear to adverse weather."""
    labels = {} if images == 'source' else dict(labels=dict(type='PseudoLabels', threshold=0.21))
    model = model_with(**labels, masked=dict(
        type='MaskedConsistency', images=images, ratio=0., jitter=None))
    data = domains(torch.Generator().manual_seed(0), alike=True)
    wrapper = build_optim_wrapper(model, optim_cfg())
    batches = model.prepare(data, wrapper)
    source, target, masked = (batches[name] for name in ('source', 'target', 'masked'))
    parts = [(source, 0), (source, 1) if images == 'source' else (target, 0)]
    for place, (batch, index) in enumerate(parts):
        assert torch.equal(masked.inputs[place], batch.inputs[index])
        assert torch.equal(masked.labels[place], batch.labels[index])
        assert (masked.weights[place] == 1).all() if batch is source else torch.equal(
            masked.weights[place], target.weights[index])
    assert len(masked.inputs) == 2
    assert images == 'source' or 0 < target.weights[0, 0, 0] < 1
    log = model.train_step(data, wrapper)
    assert log['masked.loss_masked'] > 0
    if images == 'both':
        with pytest.raises(InputError, match="with images='both' takes half .* even batch_size"):
            model.train_step(domains(torch.Generator()), wrapper)  # of other sizes


def test_an_augmentation_of_its_own():
    """Draws differ from those of the mixed image."""
    model = model_with(self_training=dict(type='SelfTraining'), masked=dict(
        type='MaskedConsistency', ratio=0.))
    data = domains(torch.Generator().manual_seed(0), alike=True)
    batches = model.prepare(data, build_optim_wrapper(model, optim_cfg()))
    assert torch.equal(batches['masked'].labels, batches['target'].labels)
    pasted = (batches['mixed'].inputs - batches['masked'].inputs).abs().amax(dim=1) > 1e-9
    assert pasted.double().mean() > 0.9


@pytest.mark.parametrize('terms', [
    dict(masked=dict(type='MaskedConsistency')),
    dict(masked=dict(type='MaskedConsistency'), teacher=dict(type='PseudoLabels'))])
def test_labels_come_first(terms):
    model = model_with(**terms)
    with pytest.raises(InputError, match='put a SelfTraining or a PseudoLabels before it'):
        model.train_step(domains(torch.Generator()), build_optim_wrapper(model, optim_cfg()))


@pytest.mark.parametrize('options,message', [
    (dict(ratio=1.2), 'ratio of MaskedConsistency is 1.2: give a number from 0 to 1'),
    (dict(images='all'), "images of MaskedConsistency is 'all': choose target or source or")])
def test_bad_settings_are_named(options, message):
    with pytest.raises(InputError, match=message):
        MaskedConsistency(num_classes=NUM_CLASSES, **options)
