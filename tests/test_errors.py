import errno

import pytest
from mmengine.registry import Registry
from torch.utils.data import DataLoader, Dataset

from structseg_mmseg.errors import InputError, NonFiniteLossError, one_sentence_errors, sentence_of
from tests.helpers.tools import sentence


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


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError('no a: give b')


@pytest.mark.parametrize('workers', [0, 1])
def test_out_of_a_data_loader(workers):
    assert sentence(lambda: next(iter(DataLoader(Broken(), num_workers=workers)))) == 'no a: give b'


def test_a_bug_has_no_sentence():
    assert sentence_of(KeyError('x')) is None
    assert sentence_of(TypeError()) is None
    with pytest.raises(KeyError), one_sentence_errors():
        {}['x']


def test_tracebacks_on_demand(monkeypatch):
    monkeypatch.setenv('STRUCTSEG_TRACEBACK', '1')
    with pytest.raises(InputError), one_sentence_errors():
        raise InputError('no a: give b')
