"""The tools as a user runs them, on the demo's config and a few images of its data."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model
from mmseg.registry import DATASETS

from structseg_mmseg.demo.street_worlds import draw_worlds
from structseg_mmseg.engine.checkpoint import load_from_local
from structseg_mmseg.errors import InputError
from tests.helpers import ROOT
from tests.helpers.data import write_cityscapes, write_gta, write_image
from tests.helpers.tools import CONFIG, SOURCE_ONLY, call, fails, run
from tests.helpers.warm import python

OFFLINE = ROOT / 'tests/offline'


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """Demo data, and both models trained for 2 iterations and tested, without a network."""
    root = tmp_path_factory.mktemp('workplace')
    offline = dict(PYTHONPATH=f'{OFFLINE}{os.pathsep}{ROOT}')
    call('dataset_converters/draw_demo.py', root / 'demo', '--source', 2, '--target', 2, '--val', 2)
    for name, config in (('full', CONFIG), ('source-only', SOURCE_ONLY)):
        train(root, config, name, 'train_cfg.max_iters=2', **offline)
        done = run('test.py', config, root / name / 'iter_2.pth', '--work-dir', root / name,
                   '--show-dir', root / name / 'pictures', data=root, **offline)
        (root / name / 'test.txt').write_text(done.stdout + done.stderr)
    return root


def train(root, config, name, *options, check=True, **environment):
    return run('train.py', config, '--work-dir', root / name, '--cfg-options',
               'default_hooks.logger.interval=1', *options, data=root, check=check, **environment)


def test_train_and_test(workplace):
    checkpoint = load_from_local(str(workplace / 'full/iter_2.pth'))
    assert checkpoint['meta']['iter'] == 2
    assert set(checkpoint['optimizer']) == {'segmentor', 'reconstruction', 'adversary'}
    for word in ('mIoU: ', 'traffic sign', 'IoU.road'):
        assert word in (workplace / 'full/test.txt').read_text()
    assert len(list(workplace.glob('full/pictures/**/*.png'))) == 2


def test_offline_is_offline():
    """What the workplace is made with would have refused a connection."""
    done = subprocess.run(
        [sys.executable, '-c', 'import urllib.request as u; u.urlopen("http://127.0.0.1:9")'],
        env=dict(os.environ, PYTHONPATH=str(OFFLINE)), capture_output=True, text=True)
    assert 'nothing may leave this machine' in done.stderr


def test_compare(workplace):
    done = call('analysis_tools/compare.py', workplace / 'source-only', workplace / 'full',
                '--picture', workplace / 'compare.png', '--samples', 2, data=workplace)
    rows = [line for line in done.stdout.splitlines() if line.startswith('|')]
    assert len(rows) == 4 and 'mIoU' in rows[0] and 'source-only' in rows[2]
    assert [line for line in done.stdout.splitlines() if line.startswith('  ')] == [
        '  demo_000001_000000', '  demo_000002_000000']
    assert cv2.imread(str(workplace / 'compare.png')).std() > 0
    fails(call('analysis_tools/compare.py', workplace / 'demo', check=False),
          'holds no test result')


@pytest.mark.parametrize('ablation', ['full', 'target-statistics', 'source-only'])
def test_benchmark_step(tmp_path, ablation):
    config = dict(full=CONFIG).get(ablation, SOURCE_ONLY)
    if ablation == 'target-statistics':
        config = tmp_path / 'config.py'
        config.write_text(f'_base_ = {str(ROOT / CONFIG)!r}\n'
                          'model = dict(terms=dict(reconstruction=None, adversary=None, '
                          "statistics=dict(type='TargetStatistics')))\n")
    fails(call('analysis_tools/benchmark_step.py', config, check=False), '--source WIDTHxHEIGHT')
    call('analysis_tools/benchmark_step.py', config, '--source', '65x33', '--target', '33x65',
         '--repeats', 1, '--json', tmp_path / 'figures.json')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert all(figures[key] > 0 for key in (
        'floor_ratio', 'sequential_ratio', 'memory_ratio', 'seconds', 'peak_bytes',
        'teraflops_per_second'))
    parts = {'preparation', 'source pass', 'optimizers'}
    if ablation != 'source-only':
        parts |= {'target pass'}
    if ablation == 'full':
        parts |= {'adversary.discriminator, in the passes', 'reconstruction.decoder, in the passes'}
    assert ('stock_ratio' in figures) == (ablation == 'source-only')
    assert set(figures['seconds_of_parts']) == parts
    parameters = 4 * 3_000_000  # more than E alone has, in bytes
    assert figures['peak_bytes'] > 2 * parameters


def distributed(tool, *args, data):
    """Start tools/dist_*.sh, in a session of its own; what torchrun starts is warm."""
    folder = os.path.dirname(sys.executable)
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore',
                       DEMO=str(data / 'demo'), PORT=str(30600 + os.getpid() % 1000),
                       PATH=f'{folder}:{os.environ["PATH"]}', PYTHON_EXEC=python())
    return subprocess.Popen([str(ROOT / 'tools' / tool), *map(str, args)], cwd=ROOT, text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)


def test_two_ranks_and_one_exchange_checkpoints(workplace):
    """Two train, one tests and goes on, two test that."""
    folder = workplace / 'two'
    process = distributed('dist_train.sh', CONFIG, 2, '--work-dir', folder, '--cfg-options',
                          'train_cfg.max_iters=2', data=workplace)
    output = process.communicate()[0]
    assert process.returncode == 0, output[-4000:]
    done = run('test.py', CONFIG, folder / 'iter_2.pth', '--work-dir', folder, data=workplace)
    score = re.compile(r'mIoU: \d+\.\d+')
    first = score.search(done.stdout + done.stderr)[0]
    assert first in output  # from the validation by two ranks
    done = run('train.py', CONFIG, '--work-dir', folder, '--resume', '--cfg-options',
               'train_cfg.max_iters=3', data=workplace)
    assert 'comes from 2 rank(s)' in done.stdout + done.stderr
    second = score.findall(done.stdout + done.stderr)[-1]
    process = distributed('dist_test.sh', CONFIG, folder / 'iter_3.pth', 2, data=workplace)
    output = process.communicate()[0]
    assert process.returncode == 0 and second in output, output[-4000:]


def test_a_dead_rank_ends_the_launcher(workplace):
    process = distributed('dist_train.sh', CONFIG, 2, '--work-dir', workplace / 'dead',
                          '--cfg-options', 'default_hooks.logger.interval=1', data=workplace)
    for line in process.stdout:
        if 'Iter(train)' in line:
            break
    with open(f'/proc/{process.pid}/task/{process.pid}/children') as children:
        os.kill(int(children.read().split()[-1]), signal.SIGKILL)
    begin = time.monotonic()
    process.communicate()
    assert process.returncode != 0 and time.monotonic() - begin < 60


@pytest.mark.parametrize('kind', ['image', 'folder', 'video'])
def test_infer(workplace, tmp_path, kind):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 64, 96, 3), np.uint8)
    if kind == 'video':
        source = tmp_path / 'ride.mp4'
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*'mp4v'), 10, (96, 64))
        for frame in frames:
            writer.write(frame)
        writer.release()
    else:
        for index, frame in enumerate([frames[0], frames[1], frames[2, :48]]):
            write_image(tmp_path / f'in/{index}.png', frame)
        source = tmp_path / ('in' if kind == 'folder' else 'in/0.png')
    weights = workplace / 'full/iter_2.pth'
    call('infer.py', SOURCE_ONLY, weights, source, '--out-dir', tmp_path / 'out', '--batch-size', 2,
         data=workplace)
    written = sorted(str(p.relative_to(tmp_path / 'out')) for p in tmp_path.glob('out/*/*'))
    if kind == 'video':
        assert written == ['masks/ride.mp4', 'overlays/ride.mp4']
        video = cv2.VideoCapture(str(tmp_path / 'out/overlays/ride.mp4'))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and video.get(cv2.CAP_PROP_FPS) == 10
        return
    names = ['0.png'] if kind == 'image' else ['0.png', '1.png', '2.png']
    assert written == [f'{part}/{name}' for part in ('masks', 'overlays') for name in names]
    mask, overlay = (cv2.imread(str(tmp_path / f'out/{part}/0.png')).astype(int)
                     for part in ('masks', 'overlays'))
    from structseg_mmseg.datasets import GTADataset
    palette = {tuple(colour[::-1]) for colour in GTADataset.METAINFO['palette']}
    assert {tuple(colour) for colour in mask.reshape(-1, 3)} <= palette
    np.testing.assert_allclose(overlay, (mask + frames[0]) / 2, atol=1)
    # Two went together, and one of another size alone.
    model = init_model(str(ROOT / SOURCE_ONLY), str(weights), device='cpu')
    colours = np.array(model.dataset_meta['palette'], np.uint8)[:, ::-1]
    for name in names:
        classes = inference_model(model, str(tmp_path / 'in' / name)).pred_sem_seg.data[0]
        np.testing.assert_array_equal(
            cv2.imread(str(tmp_path / 'out/masks' / name)), colours[classes.numpy()])


def bad_train(root, option):
    """In this process, and in a work dir of its own, as it keeps the first one's lock."""
    return call('train.py', CONFIG, '--work-dir', tempfile.mkdtemp(dir=root), '--cfg-options',
                option, data=root, check=False)


def bad_data_root(root):
    return bad_train(root, 'target_dataloader.dataset.data_root=nowhere')


def unknown_component(root):
    return bad_train(root, 'model.terms.adversary.discriminator.type=PatchGAN')


def class_count(root):
    return bad_train(root, 'model.decode_head.num_classes=9')


def another_models_checkpoint(root):
    state = load_from_local(str(root / 'full/iter_2.pth'))
    state['state_dict'].pop('backbone.blocks.3._bn1.running_mean')
    torch.save(state, root / 'other.pth')
    return call('test.py', CONFIG, root / 'other.pth', '--work-dir', root / 'bad', data=root,
                check=False)


def missing_config(root):
    return call('train.py', 'configs/none.py', check=False)


def broken_image_met_by_a_worker(root):
    """Nothing is wrong with the sample that is looked at before the start."""
    list(draw_worlds(root / 'broken/demo', source=1, target=2, val=1))
    image = sorted((root / 'broken/demo').glob('video/leftImg8bit/train/demo/*.png'))[1]
    image.write_bytes(image.read_bytes()[:1000])
    return run('train.py', CONFIG, '--work-dir', root / 'bad', '--cfg-options',
               'train_cfg.max_iters=4', data=root / 'broken', check=False)


@pytest.mark.parametrize('make,words', [
    (bad_data_root, ['there is no folder nowhere/leftImg8bit/train', 'data_root']),
    (unknown_component, ['PatchGAN is not in the', 'check the spelling']),
    (class_count, ['data has 8 classes where decode_head has 9', 'set model.decode_head']),
    (another_models_checkpoint, ['other.pth is not one of this model',
                                 'backbone.blocks.3._bn1.running_mean', 'give the config']),
    (missing_config, ['configs/none.py', 'check the path']),
    (broken_image_met_by_a_worker, ['demo_000002_000000_leftImg8bit.png cannot be read',
                                    'restore the file']),
], ids=lambda value: getattr(value, '__name__', ''))
def test_bad_input_ends_with_one_sentence(workplace, make, words):
    fails(make(workplace), *words)


def test_infer_refuses_what_does_not_fit(workplace, tmp_path):
    weights = workplace / 'full/iter_2.pth'
    fails(call('infer.py', CONFIG, weights, ROOT / 'README.md', check=False),
          'README.md cannot be read')
    fails(call('infer.py', CONFIG, weights, tmp_path, check=False), 'holds no image')
    fails(call('infer.py', CONFIG, weights, tmp_path, '--workers', 0, check=False),
          '--workers is 0')
    write_image(tmp_path / 'a.png', np.zeros((32, 32, 3), np.uint8))
    fails(call('infer.py', 'configs/structseg/deeplabv2_effnet-lite0_game2video.py', weights,
              tmp_path / 'a.png', check=False), 'is not one of this model', 'decode_head')


def test_a_traceback_on_demand(workplace, monkeypatch):
    monkeypatch.setenv('STRUCTSEG_TRACEBACK', '1')
    with pytest.raises(InputError, match='data has 8 classes'):
        class_count(workplace)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Both data sets, the source's images as JPEG and on a list, and a config that reads them."""
    gta = write_gta(tmp_path / 'gta')
    for path in gta.glob('images/*'):
        write_image(path.with_suffix('.jpg'), cv2.imread(str(path)))
        path.unlink()
    (gta / 'list.txt').write_text('00003\n00001\n')
    monkeypatch.setenv('GTA5', str(gta))
    monkeypatch.setenv('CITYSCAPES', str(write_cityscapes(tmp_path / 'cityscapes')))
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(ROOT / "configs/structseg/deeplabv2_r101_gta2cs.py")!r}\n'
        "train_dataloader = dict(dataset=dict(img_suffix='.jpg', ann_file='list.txt'))\n")
    return config


def test_cached_images_are_the_same_bytes(published, tmp_path):
    call('dataset_converters/cache_resized.py', published, tmp_path / 'cache', '--nproc', 2)
    init_default_scope('mmseg')
    cfgs = [Config.fromfile(path) for path in (published, tmp_path / 'cache/config.py')]
    for loader, size in (('train_dataloader', (720, 1280)), ('target_dataloader', (512, 1024))):
        plain, cached = (DATASETS.build(cfg[loader].dataset) for cfg in cfgs)
        assert len(plain) == len(cached) == 2
        for a, b in zip(plain, cached):
            assert Path(a['data_samples'].img_path).stem == Path(b['data_samples'].img_path).stem
            assert b['data_samples'].ori_shape == size != a['data_samples'].ori_shape
            assert torch.equal(a['inputs'], b['inputs'])
            labels = [part['data_samples'].get('gt_sem_seg') for part in (a, b)]
            assert labels[0] == labels[1] is None or torch.equal(*(label.data for label in labels))
    assert cfgs[0].val_dataloader == cfgs[1].val_dataloader
    fails(call('dataset_converters/cache_resized.py', published, tmp_path / 'cache', check=False),
          'cache is not empty', 'give a new folder')


@pytest.mark.parametrize('transforms,words', [
    ([], 'train_dataloader.dataset.pipeline has no Resize'),
    ([dict(type='RandomFlip', prob=0.5), dict(type='Resize', scale=(64, 32))],
     'has RandomFlip before Resize'),
    ([dict(type='Resize', scale_factor=0.5)], '00003.jpg does not survive a second Resize'),
])
def test_what_cannot_be_cached(published, tmp_path, transforms, words):
    pipeline = [dict(type='LoadImageFromFile'), *transforms, dict(type='PackSegInputs')]
    with published.open('a') as file:
        file.write(f"train_dataloader['dataset']['pipeline'] = {pipeline!r}\n")
    fails(call('dataset_converters/cache_resized.py', published, tmp_path / 'cache', check=False),
          words)
    assert not (tmp_path / 'cache/config.py').exists()
