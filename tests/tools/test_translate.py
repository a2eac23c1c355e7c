"""tools/translate.py on a tiny source, by networks of few weights."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

from tests.helpers import ROOT
from tests.helpers.data import write_gta
from tests.helpers.models import translator_cfg
from tests.helpers.tools import call, fails

CONFIG = '''
default_scope = 'mmseg'
custom_imports = dict(imports=['structseg_mmseg'])
model = {model!r}
train_dataloader = dict(dataset=dict(
    type='GTADataset', data_root={root!r},
    data_prefix=dict(img_path='images', seg_map_path='labels'), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(34, 18)),
        dict(type='RandomCrop', crop_size=(24, 32)), dict(type='PackSegInputs')]))
'''


@pytest.fixture
def job(tmp_path):
    """A config, a checkpoint and a new folder."""
    root = write_gta(tmp_path / 'gta')
    config, checkpoint = tmp_path / 'config.py', tmp_path / 'model.pth'
    config.write_text(CONFIG.format(model=translator_cfg(), root=str(root)))
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(translator_cfg()).state_dict()), checkpoint)
    return config, checkpoint, tmp_path / 'out'


def files(root):
    return {str(path.relative_to(root)): path.stat().st_mtime_ns
            for path in root.rglob('*') if path.is_file()}


def test_a_translated_root(job, tmp_path):
    """It stands in for the source; its images are the network's; a second call writes nothing."""
    config, checkpoint, out = job
    call('translate.py', *job)
    source = tmp_path / 'gta'
    assert set(files(out)) == {*files(source), 'translated_by.txt'}
    for path in source.glob('labels/*'):
        assert (out / 'labels' / path.name).read_bytes() == path.read_bytes()
    init_default_scope('mmseg')
    cfg = Config.fromfile(config).train_dataloader.dataset
    dataset = DATASETS.build(dict(cfg, data_root=str(out), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='MapLabelIds')]))
    assert len(dataset) == 3
    assert dataset[0]['img'].shape == (36, 64, 3) and dataset[0]['gt_seg_map'].shape == (36, 64)

    model = MODELS.build(translator_cfg()).eval()
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    image = cv2.resize(cv2.imread(str(source / 'images/00002.png')), (34, 18))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    x = torch.nn.functional.pad(x, (0, 2, 0, 2), mode='reflect')
    with torch.no_grad():
        y = model.to_target(x)[0, :, :18, :34].permute(1, 2, 0).numpy()
    expected = cv2.resize((y * 127.5 + 127.5).round().astype(np.uint8), (64, 36),
                          interpolation=cv2.INTER_CUBIC)
    written = cv2.imread(str(out / 'images/00002.png'))
    assert np.abs(written.astype(int) - expected).max() <= 1

    before = files(out)
    call('translate.py', *job)
    assert files(out) == before
    (out / 'images/00003.png').unlink()
    call('translate.py', *job)
    after = files(out)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {
        'images/00003.png', 'labels/00003.png'}


def test_what_it_refuses(job, tmp_path):
    config, checkpoint, out = job
    for folder in ('gta', 'gta/images/out'):
        fails(call('translate.py', config, checkpoint, tmp_path / folder, check=False),
              'is or lies in the source root')
    assert not (tmp_path / 'gta/images/out').exists()
    call('translate.py', *job)
    state = torch.load(checkpoint)['state_dict']
    torch.save({key: value + 1 for key, value in state.items()}, tmp_path / 'other.pth')
    fails(call('translate.py', config, tmp_path / 'other.pth', out, check=False),
          'holds something else than images by this checkpoint')
    fails(call('translate.py', config, tmp_path / 'none.pth', out, check=False),
          'there is no checkpoint')
    state.pop('to_target.layers.0.conv.weight')
    torch.save(state, tmp_path / 'half.pth')
    fails(call('translate.py', config, tmp_path / 'half.pth', out, check=False),
          'is not one of this model')
    segmentor = ROOT / 'configs/structseg/segformer_effnet-lite0_demo_source-only.py'
    fails(call('translate.py', segmentor, checkpoint, out, check=False), 'trains no translator')
    image = tmp_path / 'gta/images/00002.png'
    image.write_bytes(image.read_bytes()[:60])
    fails(call('translate.py', config, checkpoint, tmp_path / 'new', check=False),
          '00002.png cannot be read')
