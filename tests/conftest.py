"""Settings and fixtures of all tests."""
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')  # make test runs two files at a time

import pytest  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

pytest.register_assert_rewrite('tests.helpers')

import tests.helpers.models  # noqa: E402,F401  registers modules that configs name
from tests.helpers.data import write_cityscapes, write_gta  # noqa: E402


def pytest_collection_modifyitems(items):
    """The files that take minutes come first, so that two workers end at the same time."""
    items.sort(key=lambda item: '/tools/' not in str(item.path))


def pytest_collection_finish():
    import tests.helpers.quick  # noqa: F401  when all is imported


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Only tests marked gpu, their fixtures and the processes that they start see a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker('gpu') is None:
            patch.setenv('CUDA_VISIBLE_DEVICES', '')
            patch.setattr('torch.cuda.is_available', lambda: False)
            patch.setattr('mmengine.device.utils.DEVICE', 'cpu')  # as found on import
        return (yield)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture
def trees(tmp_path):
    return write_gta(tmp_path / 'gta', 5), write_cityscapes(tmp_path / 'cs', 3)
