import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import check_fit
from structseg_mmseg.errors import InputError
from tests.helpers import ROOT
from tests.helpers.data import write_cityscapes, write_gta
from tests.helpers.models import model_cfg
from tests.helpers.runs import runner_cfg
from tests.helpers.warm import python


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('zipped', [True, False])
def test_loading_runs_no_code(tmp_path, zipped):
    path, mark = tmp_path / 'evil.pth', tmp_path / 'mark'
    torch.save(dict(state_dict={}, meta=Exploit(mark)), path,
               _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match='evil.pth'):
        load_checkpoint(torch.nn.Linear(1, 1), str(path))
    assert not mark.exists()


def test_weights_from_a_url_run_no_code(tmp_path):
    """Loads that bypass mmengine's local loader are restricted by the environment."""
    path, mark = tmp_path / 'evil.pth', tmp_path / 'mark'
    torch.save(dict(meta=Exploit(mark)), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.hub.load_state_dict_from_url(path.as_uri(), model_dir=str(tmp_path / 'cache'))
    assert not mark.exists() and os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'


def test_what_mmengine_saves_loads(tmp_path):
    history = HistoryBuffer()
    history.update(1.5)
    saved = dict(message_hub=dict(log_scalars=dict(loss=history)),
                 meta=dict(best=np.float64(3), array=np.arange(3), seed=0),
                 state_dict=dict(weight=torch.ones(2)))
    torch.save(saved, tmp_path / 'ours.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'ours.pth'))
    assert loaded['message_hub']['log_scalars']['loss'].current() == 1.5
    assert loaded['meta']['best'] == 3 and loaded['meta']['array'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('content', [b'', b'no checkpoint at all', b'PK\x03\x04 cut off'])
def test_corrupt_files_are_named(tmp_path, content):
    (tmp_path / 'broken.pth').write_bytes(content)
    with pytest.raises(InputError, match='broken.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'broken.pth'))


def test_half_written_file_is_named(tmp_path):
    torch.save(dict(state_dict=dict(weight=torch.ones(1000))), tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'half.pth').write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match='half.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'half.pth'))


def test_a_flipped_bit_is_found_or_does_not_matter(tmp_path):
    """In records, their headers, padding and the directory, all over the file."""
    weights = torch.randn(200)
    torch.save(dict(state_dict=dict(weight=weights), meta=dict(iter=3)), tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    found = 0
    for position in range(0, len(whole), 31):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        (tmp_path / 'flipped.pth').write_bytes(flipped)
        try:
            loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'flipped.pth'))
        except InputError as error:
            assert 'flipped.pth' in str(error)
            found += 1
        else:
            assert torch.equal(loaded['state_dict']['weight'], weights)
            assert loaded['meta'] == dict(iter=3)
    assert found > 26  # as many positions are among the 800 bytes of weights alone


def test_missing_file_and_bare_tensor(tmp_path):
    with pytest.raises(InputError, match='there is no checkpoint'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'none.pth'))
    torch.save(torch.ones(1), tmp_path / 'tensor.pth')
    with pytest.raises(InputError, match='no state dict'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'tensor.pth'))


def test_a_fitting_checkpoint_with_or_without_training_parts():
    full = MODELS.build(model_cfg())
    plain = MODELS.build(model_cfg(False, False))
    check_fit(full, dict(state_dict=full.state_dict()))
    check_fit(full, full.state_dict())
    check_fit(full, plain.state_dict())
    check_fit(plain, full.state_dict())
    check_fit(full, {f'module.{key}': value for key, value in full.state_dict().items()})


@pytest.mark.parametrize('change,message', [
    (lambda s: s.pop('backbone.conv1.weight'), 'lacks 1 keys, e.g. backbone.conv1.weight'),
    (lambda s: s.update(extra=torch.ones(1)), 'has unknown 1 keys, e.g. extra'),
    (lambda s: s.pop('terms.adversary.discriminator.conv.conv.bias'),
     'lacks 1 keys, e.g. terms.adversary.discriminator.conv'),
    (lambda s: s.update({'decode_head.conv_seg.0.bias': torch.ones(7)}), 'has other shapes for 1'),
])
def test_another_models_checkpoint_is_refused(change, message):
    model = MODELS.build(model_cfg())
    state = dict(model.state_dict())
    change(state)
    with pytest.raises(InputError, match=message):
        check_fit(model, dict(state_dict=state), 'x.pth')


# As a user's is: conftest has made this process safe.
ENVIRONMENT = {key: value for key, value in os.environ.items() if 'WEIGHTS_ONLY' not in key}


IMPORTED = """
import os
from mmengine.runner.checkpoint import CheckpointLoader
before = dict(CheckpointLoader._schemes)
import structseg_mmseg
from structseg_mmseg.engine.checkpoint import load_safely
for case in 'import', 'tool', 'consent':
    if not os.fork():
        if case == 'consent':
            os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'
        if case != 'import':
            load_safely()
        print(os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD'), before == CheckpointLoader._schemes)
        os._exit(0)
    os.wait()
"""


def test_an_import_changes_nothing_for_others():
    """Neither torch's default nor mmengine's loader, which tools replace."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-uc', IMPORTED], env=ENVIRONMENT,
                          capture_output=True, text=True, check=True)
    # A user who asked torch for unrestricted loads keeps them, outside mmengine's loader.
    imported, tool, consent = done.stdout.splitlines()[-3:]
    assert (imported, tool, consent) == ('None True', '1 False', 'None False')


@pytest.mark.parametrize('name', ['AdaptationRunner', 'train', 'test'])
def test_tools_and_runner_load_safely(name, tmp_path):
    """A foreign checkpoint through any of them runs no code."""
    path, mark, config = (tmp_path / name for name in ('evil.pth', 'mark', 'config.py'))
    torch.save(dict(state_dict={}, meta=Exploit(mark)), path)
    cfg = runner_cfg((write_gta(tmp_path / 'gta', 2), write_cityscapes(tmp_path / 'cs', 2)),
                     tmp_path / 'work', 1, load_from=str(path),
                     custom_imports=dict(imports=['structseg_mmseg']))
    cfg.update(test_cfg=dict(type='TestLoop'), test_evaluator=dict(type='IoUMetric'),
               test_dataloader=dict(cfg['train_dataloader'], sampler=dict(type='DefaultSampler')))
    if name == 'AdaptationRunner':
        cfg['runner_type'] = name
        command = ['-c', 'import sys; from mmengine.config import Config; '
                   'from mmseg.registry import RUNNERS; '
                   'RUNNERS.build(Config.fromfile(sys.argv[1])).train()', config]
    else:
        command = [ROOT / f'tools/{name}.py', config, *([path] if name == 'test' else [])]
    Config(cfg).dump(config)
    done = subprocess.run([python(), *map(str, command)],
                          capture_output=True, text=True,
                          env=dict(ENVIRONMENT, PYTHONPATH=str(ROOT)))
    assert done.returncode and 'evil.pth is not a checkpoint that can be loaded' in done.stderr
    assert not mark.exists()


class Getattr:
    def __reduce__(self):
        return getattr, (torch.Tensor, 'numpy')


def test_getattr_reaches_nothing_else(tmp_path):
    torch.save(dict(x=Getattr()), tmp_path / 'x.pth')
    with pytest.raises(InputError, match='getattr of'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))
