import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from mmseg.registry import MODELS

from structseg_mmseg.engine.checkpoint import SAFE_TYPES, check_fit
from structseg_mmseg.errors import InputError
from tests.conftest import ROOT, model_cfg, write_cityscapes, write_gta
from tests.engine.test_adaptation_train_loop import runner_cfg, train


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


def test_explicit_consent_is_respected(tmp_path):
    """A user who asked torch for unrestricted loads keeps them, outside mmengine's loader."""
    code = ('import os, structseg_mmseg; '
            'print(os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"))')
    environment = dict(os.environ, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    environment.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=environment,
                         capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == 'None'


class Getattr:
    def __reduce__(self):
        return getattr, (torch.Tensor, 'numpy')


def test_getattr_reaches_nothing_else(tmp_path):
    torch.save(dict(x=Getattr()), tmp_path / 'x.pth')
    with pytest.raises(InputError, match='getattr of'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))


def tiny_cfg() -> dict:
    """The model that tests/data/before_terms.pth was trained with, two iterations."""
    cfg = model_cfg()
    cfg['backbone'].update(base_channels=1, stem_channels=1)
    cfg['decode_head'].update(in_channels=8)
    cfg['terms']['reconstruction']['decoder'].update(in_channels=8, channels=8)
    return cfg


def test_a_checkpoint_from_before_the_terms_loads_and_resumes(tmp_path, monkeypatch):
    """Written by version 0.1, whose model had a reconstructor and a discriminator."""
    path = str(ROOT / 'tests/data/before_terms.pth')
    with torch.serialization.safe_globals(SAFE_TYPES):
        raw = torch.load(path)
    said = []
    monkeypatch.setattr('structseg_mmseg.engine.checkpoint.print_log',
                        lambda text, logger: said.append(text))
    checkpoint = CheckpointLoader.load_checkpoint(path)
    number = sum(key.startswith(('reconstructor.', 'discriminator.')) for key in raw['state_dict'])
    assert number and len(said) == 1
    assert f'earlier version: {number} of its keys are renamed' in said[0]
    model = MODELS.build(tiny_cfg())
    check_fit(model, checkpoint, path)
    model.load_state_dict(checkpoint['state_dict'])
    assert torch.equal(model.terms['adversary'].discriminator.classify.bias,
                       raw['state_dict']['discriminator.classify.bias'])
    assert torch.equal(model.terms['reconstruction'].decoder.layers[0].conv.bias,
                       raw['state_dict']['reconstructor.layers.0.conv.bias'])
    averaged = dict(ema_state_dict={'module.discriminator.classify.bias': torch.ones(1)},
                    state_dict={})
    torch.save(averaged, tmp_path / 'averaged.pth')
    assert list(CheckpointLoader.load_checkpoint(str(tmp_path / 'averaged.pth'))[
        'ema_state_dict']) == ['module.terms.adversary.discriminator.classify.bias']

    trees = write_gta(tmp_path / 'gta', 5), write_cityscapes(tmp_path / 'cs', 3)
    cfg = runner_cfg(trees, tmp_path / 'work', 3, model=tiny_cfg(), load_from=path, resume=True)
    resumed, _ = train(cfg)
    assert resumed['meta']['iter'] == 3
    for part in ('reconstruction', 'adversary'):
        assert {int(state['step']) for state in resumed['optimizer'][part]['state'].values()} == {3}
        assert resumed['param_schedulers'][part][0]['last_step'] == 3
