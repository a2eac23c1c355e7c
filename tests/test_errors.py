import errno

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import Registry
from mmseg.registry import MODELS
from torch.utils.data import DataLoader, Dataset

from structseg_mmseg.errors import InputError, NonFiniteLossError, one_sentence_errors
from structseg_mmseg.models.discriminators import aspp_discriminator
from tests.conftest import batch, model_cfg, optim_cfg


def sentence(raiser) -> str:
    with pytest.raises(SystemExit) as stop, one_sentence_errors():
        raiser()
    assert stop.value.code.startswith('error: ') and '\n' not in stop.value.code
    return stop.value.code.removeprefix('error: ')


def test_plain_and_with_a_cause():
    def plain():
        raise InputError('no a: give b')

    def caused():
        try:
            raise ImportError('x')
        except ImportError as error:
            raise InputError('no a: give b') from error

    assert sentence(plain) == sentence(caused) == 'no a: give b'


def test_a_loss_that_is_not_finite():
    def diverged():
        raise NonFiniteLossError('not finite at iteration 2: x; do y')

    assert sentence(diverged) == 'not finite at iteration 2: x; do y'


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(number):
    """What writes raises has no name of a file, what opens has."""
    def full(*file):
        raise OSError(number, 'full', *file)

    assert sentence(full) == 'a file cannot be written, as the disk is full: make room'
    assert sentence(lambda: full('x.pth')).startswith('x.pth cannot be written')


REGISTRY = Registry('parts', scope='tests', locations=[])


@REGISTRY.register_module()
class Part:
    def __init__(self, part=None):
        if part is None:
            raise InputError('no a: give b')
        REGISTRY.build(part)


def test_out_of_nested_registries():
    assert sentence(lambda: REGISTRY.build(dict(type='Part', part=dict(type='Part')))) == (
        'no a: give b')
    text = sentence(lambda: REGISTRY.build(dict(type='Part', part=dict(type='Prat'))))
    assert text.startswith('Prat is not in the tests::parts registry: check the spelling')


@pytest.mark.parametrize('part,says', [
    (dict(type='DeepLabV2Head', in_channels=8, num_classes={}), 'DeepLabV2Head says "'),
    (dict(type='DeepLabV2Head', in_channels=8, channels=4, num_classes=2), 'DeepLabV2Head says "'),
    (dict(type='Adversary'), 'Adversary says "'),
    (dict(type='Adversary', discriminator=7, num_classes=2), 'Adversary says "'),
    (dict(num_classes=7), "mmengine says '`cfg` or `default_args` must contain the key \"type\""),
], ids=range(5))
def test_what_another_package_says_of_a_part(part, says):
    assert sentence(lambda: MODELS.build(part)).startswith(says)


def test_a_bug_in_a_part_keeps_its_traceback(monkeypatch):
    monkeypatch.delattr(aspp_discriminator, 'LEAKY')
    with pytest.raises(NameError), one_sentence_errors():
        MODELS.build(dict(type='ASPPDiscriminator', in_channels=2))


@pytest.mark.parametrize('size', [1, 2])
def test_features_of_a_single_value(size):
    """Batch normalisation of one image, instance normalisation of any."""
    data = {domain: batch(torch.Generator(), 1, 1, domain == 'source', size)
            for domain in ('source', 'target')}
    model = MODELS.build(model_cfg()).train()
    wrapper = build_optim_wrapper(model, optim_cfg())
    assert sentence(lambda: model.train_step(data, wrapper)) == (
        'normalisation has met features of a single value a channel: train on larger images, or '
        'raise batch_size')


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError('no a: give b')


@pytest.mark.parametrize('workers', [0, 1])
def test_out_of_a_data_loader(workers):
    assert sentence(lambda: next(iter(DataLoader(Broken(), num_workers=workers)))) == 'no a: give b'


def test_bugs_keep_their_traceback():
    with pytest.raises(KeyError), one_sentence_errors():
        {}['x']


def test_tracebacks_on_demand(monkeypatch):
    monkeypatch.setenv('STRUCTSEG_TRACEBACK', '1')
    with pytest.raises(InputError), one_sentence_errors():
        raise InputError('no a: give b')
