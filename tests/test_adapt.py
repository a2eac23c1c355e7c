"""Models of mmseg's zoo and of one's own, adapted to a folder of images, on drawn data."""
import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import cv2
import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import save_checkpoint
from mmseg.registry import DATASETS, MODELS

from structseg_mmseg import adapt
from structseg_mmseg.engine.adabn import estimate_checkpoint
from structseg_mmseg.engine.checkpoint import check_fit, load_from_local
from tests.helpers import ROOT
from tests.helpers.data import write_image
from tests.helpers.tools import call, fails, sentence

ZOO = Path(mmseg.__file__).parent / '.mim/configs'
CLASSES = ('cell', 'fibre', 'gap')  # nothing of Cityscapes
SIDE = 64
# A zoo config of each family, and the strides of G's features and of the logits (0: D sees none).
FAMILIES = {
    'fcn_r18-d8_4xb2-80k_cityscapes-512x1024': (8, 8),
    'pspnet_r18-d8_4xb2-80k_cityscapes-512x1024': (8, 8),
    'deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024': (8, 4),
    'swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512': (16, 4),
    'segformer_mit-b0_8xb1-160k_cityscapes-1024x1024': (16, 4),
    'bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024': (8, 8),
    'segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512': (16, 8),
    'convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512': (16, 4),
    'pidnet-s_2xb6-120k_1024x1024-cityscapes': (8, 0),  # feature-level
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A source with labels, and a target of two kinds of files in nested folders."""
    root, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    for index in range(4):
        label = np.repeat(np.repeat(rng.integers(0, 3, (6, 8)), 12, 0), 12, 1).astype(np.uint8)
        image = (80 * label[..., None] + rng.integers(0, 60, (*label.shape, 3))).astype(np.uint8)
        write_image(root / f'source/images/{index}.png', image)
        write_image(root / f'source/labels/{index}.png', label)
        name = f'{index}.png' if index % 2 else f'deep/er/{index}.JPG'
        write_image(root / 'target' / name, 255 - image[:60])
    (root / 'target/notes.txt').write_text('no image')
    return root


def supervised(data, base, **model):
    """A config of one's own on a base of the zoo: other data, other classes, small crops."""
    load, labels, pack = (dict(type=name) for name in (
        'LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs'))
    pipeline = [
        load, labels,
        dict(type='RandomResize', scale=(96, 72), ratio_range=(0.9, 1.5), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(SIDE, SIDE), cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), pack]
    if 'pidnet' in base:
        pipeline.insert(-1, dict(type='GenerateEdge', edge_width=4))
    dataset = dict(
        type='BaseSegDataset', data_root=str(data / 'source'), img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=CLASSES, palette=[[200, 0, 0], [0, 200, 0], [0, 0, 200]]))
    path, cfg = adapt.load_config(base)
    model = {'data_preprocessor': dict(size=(SIDE, SIDE)), **model}
    keys = dict(
        _base_=str(path), model=model,
        train_dataloader=dict(
            batch_size=2, num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            dataset=dict(dataset, pipeline=pipeline)),
        val_dataloader=dict(
            batch_size=1, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(dataset, pipeline=[load, labels, pack])))
    keys['test_dataloader'] = keys['val_dataloader']
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        keys[key] = dict(_delete_=True, **keys[key]) if key in cfg else keys[key]
    return '\n'.join(adapt.assignment(key, value) for key, value in keys.items()) + '\n'


def heads(base):
    """The number of classes in all heads of a zoo config, which are narrow, and Swin shallow."""
    cfg = Config.fromfile(adapt.load_config(base)[0], import_custom_modules=False)
    auxiliary = cfg.model.get('auxiliary_head')
    changes = dict(num_classes=len(CLASSES), channels=32)
    model = dict(decode_head=dict(changes))
    if 'segnext' in base or 'pidnet' in base:  # whose widths depend on each other
        model['decode_head'].pop('channels')
    if isinstance(auxiliary, dict):
        model['auxiliary_head'] = changes
    elif auxiliary:
        model['auxiliary_head'] = [dict(head.to_dict(), **changes) for head in auxiliary]
    losses = cfg.model.decode_head.loss_decode
    if isinstance(losses, list):  # their class weights are Cityscapes'
        model['decode_head']['loss_decode'] = [
            {key: value for key, value in loss.items() if key != 'class_weight'}
            for loss in losses]
    if 'swin' in base:
        model['backbone'] = dict(depths=(1, 1, 1, 1))
    return model


def save(model, path, classes=CLASSES):
    """Weights of a supervised training that has just begun."""
    save_checkpoint(dict(meta=dict(dataset_meta=dict(
        classes=classes, palette=[[200, 0, 0], [0, 200, 0], [0, 0, 200]])),
        state_dict=model.state_dict()), str(path))


def batches_of(cfg):
    """A batch of each domain, as the training loop seeds its samples."""
    batches = {}
    for number, key in enumerate(('train_dataloader', 'target_dataloader')):
        batch = batches[('source', 'target')[number]] = next(iter(
            Runner.build_dataloader(cfg[key], seed=0)))
        for place, sample in enumerate(batch['data_samples']):
            sample.set_metainfo(dict(seed=(0, number, place)))
    return batches


@pytest.mark.parametrize('name', FAMILIES)
def test_a_family_of_the_zoo_adapts(name, data, tmp_path):
    if 'convnext' in name:
        pytest.importorskip('mmpretrain', reason='its backbone is of mmpretrain')
    config, weights = tmp_path / 'config.py', tmp_path / 'weights.pth'
    config.write_text(supervised(data, name, **heads(name)))
    path, cfg = adapt.load_config(str(config))
    methods = ['feature-level'] if 'pidnet' in name else ['mic', 'structseg']
    model = adapt.build(cfg, methods[0])
    save(model, weights)
    adapt.load_checkpoint(model, str(weights))
    target = adapt.target_of(cfg, data / 'target', methods[0])
    assert target.side == SIDE
    for method in methods:
        measured = adapt.measure(model, method)
        assert (measured.stride, measured.logits_stride) == FAMILIES[name]
        out = tmp_path / f'{method}.py'
        out.write_text(adapt.adaptation(cfg, path.name, str(weights), target, method, measured))
        assert max(map(len, out.read_text().splitlines())) <= 130  # but paths, all within 100
        new = Config.fromfile(out)
        if new.optim_wrapper.type == 'AmpOptimWrapper':  # for a GPU
            new.optim_wrapper.type = 'OptimWrapper'
        if 'constructor' in cfg.optim_wrapper:  # layer-wise rates
            assert new.optim_wrapper.segmentor.constructor == cfg.optim_wrapper.constructor
        assert new.train_cfg.max_iters == cfg.train_cfg.max_iters
        # The paper's terms see features and logits alone: a few families are enough.
        if method != 'structseg' or name.startswith(('bisenetv2', 'swin')):
            trains(new, method)


def trains(cfg, method):
    """A model is the checkpoint's and one iteration moves each of its parts."""
    terms = adapt.TERMS[method]
    model = MODELS.build(cfg.model)
    check_fit(model, load_from_local(cfg.load_from))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    own = [name for name in terms if name in ('reconstruction', 'adversary')]
    assert [*wrapper.keys()] == ['segmentor', *own]
    before = {key: value.clone() for key, value in model.named_parameters()}
    batches = batches_of(cfg)
    assert all('gt_sem_seg' not in sample for sample in batches['target']['data_samples'])
    losses = model.train_step(batches, wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert {'self_training.loss_mixed', 'masked.loss_masked'} <= set(losses) or (
        {'reconstruction.loss_target', 'reconstruction.loss_source'} <= set(losses))
    moved = [key for key, value in model.named_parameters() if not torch.equal(value, before[key])]
    for part in ('backbone.', 'decode_head.', *(f'terms.{term}.' for term in own)):
        assert any(key.startswith(part) for key in moved), part


@pytest.mark.parametrize('name, method, words', [
    ('mask2former_r50_8xb2-90k_cityscapes-512x1024', 'self-training', 'Mask2FormerHead classifies'),
    ('pidnet-s_2xb6-120k_1024x1024-cityscapes', 'mic', 'PIDHead gives several maps'),
    ('knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512', 'structseg', 'several maps'),
])
def test_heads_without_one_map_of_logits(name, method, words):
    def raiser():
        cfg = adapt.load_config(name)[1]
        if 'knet' in name:  # one stage of three is enough
            cfg.model.decode_head.kernel_update_head[1:] = []
            cfg.model.decode_head.num_stages = 1
        adapt.measure(adapt.build(cfg, method), method)

    assert words in sentence(raiser)
    assert 'choose --method feature-level; --method statistics' in sentence(raiser)


def test_a_softmax_of_one_channel():
    head = dict(type='FCNHead', num_classes=2, out_channels=1)
    cfg = Config(dict(model=dict(type='EncoderDecoder', decode_head=head)))
    assert 'out_channels=1, whose softmax tells output-level nothing' in sentence(
        lambda: adapt.build(cfg, 'output-level'))


def test_layer_wise_rates_and_mixed_precision_remain(tmp_path):
    """ConvNeXt's, whose backbone may be absent."""
    path, cfg = adapt.load_config('convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512')
    out = tmp_path / 'out.py'
    out.write_text(adapt.adaptation(
        cfg, str(path), 'x.pth', adapt.Target(tmp_path, {}, 512, ''), 'structseg',
        adapt.Measured(2, 384, 16, 4)))
    optim = Config.fromfile(out, import_custom_modules=False).optim_wrapper
    assert optim.segmentor == {key: cfg.optim_wrapper[key] for key in (
        'constructor', 'optimizer', 'paramwise_cfg')}
    assert (optim.type, optim.loss_scale) == ('AmpOptimWrapper', 'dynamic')
    assert optim.adversary.optimizer.type == 'Adam'


@pytest.mark.parametrize('method', ['output-level', 'self-training'])
def test_only_the_difference_is_written(method, tmp_path):
    """On a config of this package, which has its runtime."""
    cfg = Config.fromfile(ROOT / 'configs/structseg/segformer_effnet-lite0_demo_source-only.py')
    text = adapt.adaptation(
        cfg, str(ROOT / 'configs/structseg/x.py'), 'x.pth',
        adapt.Target(tmp_path, dict(type='ImageFolderDataset'), 512, ''), method,
        adapt.Measured(2, 112, 16, 4))
    keys = re.findall(r'^(\w+) =', text, re.MULTILINE)
    optimizers = ['optim_wrapper'] if method == 'output-level' else []
    assert keys == ['_base_', 'model', 'load_from', *optimizers, 'target_dataloader',
                    'default_hooks', 'custom_hooks']
    assert 'segmentor' not in text.split('load_from')[1]


def test_self_training_fits_the_length_and_the_images():
    def of(max_iters, side):
        terms, optimizers = adapt.method_of(adapt.Measured(0, 8, 8, 8), 'mic', max_iters, side)
        assert not optimizers
        return *(terms['self_training'][key] for key in ('threshold', 'alpha')), (
            terms['masked']['block'])

    assert of(600, 257) == (0.9, 0.99, 16)
    assert of(40_000, 512) == (0.968, 0.999, 32)  # as published


RESIZE, CROP = dict(type='Resize', scale=(64, 48)), dict(type='RandomCrop', crop_size=(32, 32))
CENTER, PAD = dict(type='CenterCrop', crop_size=(40, 40)), dict(type='Pad', size=(96, 96))


@pytest.mark.parametrize('steps, kept', [
    ([PAD, CENTER, RESIZE], [RESIZE]), ([CENTER, CROP], [CROP]),
    ([RESIZE, PAD, CENTER], [RESIZE, PAD, CENTER]), ([CENTER], [CENTER]),
    ([dict(type='Pad', size_divisor=32), CROP], [dict(type='Pad', size_divisor=32), CROP])])
def test_what_was_made_for_the_source_s_shape(steps, kept):
    assert adapt.fitted(steps) == (
        kept, [step['type'] for step in steps if step not in kept])


def test_the_target_gets_the_network_s_size(data, tmp_path):
    """Source images are 72 x 96, target images 60 x 96."""
    config = tmp_path / 'config.py'
    config.write_text(supervised(data, 'fcn_r18-d8_4xb2-80k_cityscapes-512x1024'))
    cfg = adapt.load_config(str(config))[1]
    pipeline = cfg.train_dataloader.dataset.pipeline
    squeeze = dict(type='Resize', scale=(50, 40), keep_ratio=False)
    pipeline[2:4] = [dict(PAD), dict(CENTER), squeeze]
    target = adapt.target_of(cfg, data / 'target', 'self-training')
    assert [step['type'] for step in target.dataset['pipeline']] == [
        'LoadImageFromFile', 'Resize', 'RandomFlip', 'PhotoMetricDistortion', 'PackSegInputs']
    assert (target.side, target.note) == (
        40, "As the source's, without labels, and without Pad and CenterCrop, made for its 96x72")
    same = adapt.target_of(cfg, data / 'source/images', 'self-training')
    assert [step['type'] for step in same.dataset['pipeline']][1:3] == ['Pad', 'CenterCrop']
    # Images of two sizes, which nothing crops or pads to one, cannot be mixed.
    pipeline[2:5] = [dict(type='Resize', scale=(48, 36), keep_ratio=True)]
    cfg.model.data_preprocessor.pop('size')
    words = sentence(lambda: adapt.target_of(cfg, data / 'target', 'mic'))
    assert 'gives images of 48x30 to 48x36 pixels, and mic mixes' in words
    adapt.target_of(cfg, data / 'target', 'structseg')


def test_a_video(tmp_path):
    """Frames are written once, a tenth of a second apart in a video of 25 seconds at 30 Hz."""
    video = tmp_path / 'drive.mp4'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'mp4v'), 30, (32, 24))
    for index in range(330):
        writer.write(np.full((24, 32, 3), index % 256, np.uint8))
    writer.release()
    folder = adapt.folder_of(video, tmp_path)
    assert folder == tmp_path / 'drive_frames'
    frames = sorted(folder.iterdir())
    assert [frame.name for frame in frames] == [f'{3 * n:06d}.jpg' for n in range(110)]
    assert abs(int(cv2.imread(str(frames[40])).mean()) - 120) < 6
    (tmp_path / 'drive_frames/000000.jpg').unlink()
    assert len([*adapt.folder_of(video, tmp_path).iterdir()]) == 109  # nothing is read anew

    bad = tmp_path / 'bad.mp4'
    bad.write_bytes(video.read_bytes()[:3000])
    assert 'bad.mp4 cannot be read as a video' in sentence(lambda: adapt.folder_of(bad, tmp_path))
    broken = tmp_path / 'broken.avi'
    writer = cv2.VideoWriter(str(broken), cv2.VideoWriter_fourcc(*'MJPG'), 30, (32, 24))
    for index in range(60):
        writer.write(np.random.default_rng(index).integers(0, 255, (24, 32, 3), np.uint8))
    writer.release()
    broken.write_bytes(broken.read_bytes()[:broken.stat().st_size // 2])
    assert re.search(r'broken.avi breaks off after \d+ of \d+ frames', sentence(
        lambda: adapt.folder_of(broken, tmp_path)))
    assert not (tmp_path / 'broken_frames').exists()


def test_the_pipeline_of_a_wrapped_data_set():
    inner = dict(type='BaseSegDataset', pipeline=[dict(type='LoadImageFromFile')])
    for outer in (dict(type='RepeatDataset', dataset=inner),
                  dict(type='ConcatDataset', datasets=[inner, inner])):
        assert adapt.pipeline_of(outer) == inner['pipeline']


def test_a_cascade_has_only_statistics():
    cfg = adapt.load_config('ocrnet_hr18s_4xb2-40k_cityscapes-512x1024')[1]
    assert 'no method that trains goes with it; --method statistics' in sentence(
        lambda: adapt.build(cfg, 'structseg'))
    adapt.build(cfg, 'statistics')


OWN = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True,
        size=(SIDE, SIDE)),
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8, out_indices=(3, )),
    decode_head=dict(type='FCNHead', in_channels=64, channels=8, num_convs=1, num_classes=3,
                     in_index=0, norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'))


@pytest.fixture
def own(data, tmp_path, monkeypatch):
    """A small model of one's own and its weights, in the folder that tools run in."""
    base = tmp_path / 'base.py'
    base.write_text(f'_base_ = [{str(ZOO / "_base_/default_runtime.py")!r}, '
                    f'{str(ZOO / "_base_/schedules/schedule_20k.py")!r}]\n')
    config = tmp_path / 'own.py'
    config.write_text(supervised(data, str(base), **OWN) + '''
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
''')
    save(MODELS.build(Config.fromfile(config).model), tmp_path / 'own.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_estimates_scores_and_draws(own, data):
    done = call('adapt.py', 'own.py', '--checkpoint', 'own.pth', '--target', data / 'target',
                '--method', 'statistics')
    *lines, last = done.stdout.strip().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith('before '))
    header, before, after = lines[first - 1:first + 2]  # what is lost, if it is much, follows
    assert re.split('  +', header.strip()) == ['mIoU on the source', 'agreement on the target']
    score = r' +([\d.]+) \(([+-][\d.]+)\)'
    scores = [re.fullmatch(name + score + score, line)
              for name, line in (('before', before), ('statistics', after))]
    for column in (1, 3):
        assert scores[0][column + 1] == '+0.00'
        was, now, gain = map(float, (scores[0][column], *scores[1].groups()[column - 1:column + 1]))
        assert abs(now - was - gain) < 0.011
    assert last.startswith('work_dirs/my_adaptation/target: ')
    pictures = sorted((own / 'work_dirs/my_adaptation/target').iterdir())
    assert [path.name for path in pictures] == ['0_1.png', '1_3.png', '2_0.png', '3_2.png']
    assert cv2.imread(str(pictures[0])).shape == (60, 3 * 96, 3)  # image, before, statistics
    # Weights are the same, statistics are not, and equal those that the other tool writes.
    before, after = (load_from_local(str(own / name))['state_dict']
                     for name in ('own.pth', 'my_adaptation.pth'))
    changed = {key.rsplit('.')[-1] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {'running_mean', 'running_var', 'num_batches_tracked'}
    cfg = Config.fromfile('own.py')
    cfg.statistics_dataloader = adapt.inference_loader(cfg, data / 'target')
    estimate_checkpoint(cfg, 'own.pth', 'other.pth')
    other = load_from_local('other.pth')['state_dict']
    assert all(torch.equal(after[key], other[key]) for key in after)


def test_the_whole_case_of_the_docs(tmp_path, monkeypatch):
    """The commands of docs/adapt.md on the files that it shows, shorter."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / 'docs/adapt.md').read_text().split('\n## The whole case\n')[1]
    files = re.findall(r'^```python\n# (\S+)\n(.*?)^```$', page, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == ['draw.py', 'my_config.py']
    for name, text in files:
        for old, new in (('40)', '4)'), ('10)', '2)'), ('=200, val_interval=100', '=2, '
                         'val_interval=2'), ('interval=100)', 'interval=2)')):
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    block = re.search(r'^```\n(python draw.*?)^```$', page, re.DOTALL | re.MULTILINE)[1]
    commands = block.replace('iter_200', 'iter_2').splitlines()
    assert [command.split()[1:3] for command in commands] == [
        ['draw.py'], ['-m', 'structseg_mmseg'], ['-m', 'structseg_mmseg']]
    for command in commands:
        _, *argv = command.split()
        out = io.StringIO()
        with redirect_stdout(out), patch.object(sys, 'argv', argv[argv[0] == '-m':]), (
                patch.object(sys, 'path', ['', *sys.path])):
            if argv[0] == '-m':
                runpy.run_module(argv[1], run_name='__main__')
            else:
                runpy.run_path(argv[0], run_name='__main__')
    assert '\n\nno problem found\n' in out.getvalue()
    *lines, last = out.getvalue().strip().splitlines()
    steps = [line.split()[0] for line in lines if re.search(r' \([+-]\d+\.\d\d\)', line)]
    assert steps == ['before', 'statistics', 'trained']
    assert list((tmp_path / 'work_dirs/my_adaptation').glob('best_agreement_iter_2.pth'))
    assert last == ('work_dirs/my_adaptation/target: target images, and predictions of: before, '
                    'statistics, trained')
    pictures = sorted((tmp_path / 'work_dirs/my_adaptation/target').iterdir())
    assert [path.name for path in pictures] == [f'{n}_00{n}.png' for n in range(4)]
    assert cv2.imread(str(pictures[0])).shape == (96, 4 * 128, 3)
    text = (tmp_path / 'my_adaptation.py').read_text()
    first = next(line for line in text.splitlines() if not line.startswith('#'))
    assert first == "_base_ = 'my_config.py'"  # below a comment of as many lines as it takes
    assert "type='SelfTraining'" in text and (tmp_path / 'my_adaptation.pth').exists()


def test_a_model_without_its_data(own, data):
    """Such as one of the zoo: nothing is scored on the source."""
    (own / 'no_data.py').write_text(
        "_base_ = 'own.py'\nval_dataloader = dict(dataset=dict(data_root='nowhere'))\n")
    done = call('adapt.py', 'no_data.py', '--checkpoint', 'own.pth', '--target', data / 'target',
                '--method', 'statistics')
    assert 'no step is scored on the source: ' in done.stdout
    *_, header, before, after, _ = done.stdout.strip().splitlines()
    assert header.strip() == 'agreement on the target'
    assert [line.split()[0] for line in (before, after)] == ['before', 'statistics']
    assert (own / 'my_adaptation.pth').exists()


def test_input_errors(own, data):
    def adapted(*args, config='own.py', checkpoint='own.pth', target=data / 'target'):
        return call('adapt.py', own / config, '--checkpoint', own / checkpoint, '--target', target,
                    '--out', own / 'out.py', *args, check=False)

    (own / 'text.mp4').write_text('no video')
    fails(adapted(target=own / 'text.mp4'), r'text\.mp4 cannot be read as a video')
    (own / 'empty').mkdir()
    fails(adapted(target=own / 'empty'), r'empty holds no image \(\.bmp')
    fails(adapted(target=own / 'nowhere'), 'there is no folder .*nowhere')
    fails(adapted(checkpoint='no.pth'), r'there is no checkpoint .*no\.pth')
    fails(adapted(config='no.py'), r'there is no config .*no\.py')
    cfg = Config.fromfile(own / 'own.py')
    cfg.model.decode_head.num_classes = 4
    four = MODELS.build(cfg.model)
    save(four, own / 'four.pth', (*CLASSES, 'more'))
    fails(adapted(checkpoint='four.pth'), r'four\.pth was trained on 4 classes where .* has 3')
    save(four, own / 'unnamed.pth', None)
    fails(adapted(checkpoint='unnamed.pth'), r'unnamed\.pth is not one of this model')
    (own / 'epochs.py').write_text(
        "_base_ = 'own.py'\ntrain_cfg = dict(_delete_=True, by_epoch=True, max_epochs=2)\n")
    fails(adapted(config='epochs.py'), 'train_cfg counts epochs')
    (own / 'adapts.py').write_text(
        "_base_ = 'own.py'\nmodel = dict(type='AdaptationSegmentor', terms=dict(a=dict(type='x')))")
    fails(adapted(config='adapts.py'), 'the config adapts already')
    assert not (own / 'out.py').exists()
    (own / 'out.py').touch()
    fails(adapted(), r'out\.py exists')


def test_statistics_need_batch_normalisation(own, data):
    (own / 'plain.py').write_text("""_base_ = 'own.py'
model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=2)),
             decode_head=dict(norm_cfg=dict(_delete_=True, type='GN', num_groups=2)))
""")
    save(MODELS.build(Config.fromfile(own / 'plain.py').model), own / 'plain.pth')
    fails(call('adapt.py', own / 'plain.py', '--checkpoint', own / 'plain.pth', '--target',
               data / 'target', '--method', 'statistics', '--out', own / 'out.py', check=False),
          'no batch normalisation')
    assert not (own / 'out.pth').exists()


def test_a_pooled_branch_takes_two_images(own, data):
    (own / 'pooled.py').write_text("""_base_ = 'own.py'
model = dict(decode_head=dict(_delete_=True, type='PSPHead', in_channels=64, channels=8,
                              in_index=0, num_classes=3, norm_cfg=dict(type='BN')))
""")
    save(MODELS.build(Config.fromfile(own / 'pooled.py').model), own / 'pooled.pth')
    call('adapt.py', own / 'pooled.py', '--checkpoint', own / 'pooled.pth', '--target',
         data / 'target', '--method', 'statistics', '--out', own / 'out.py')
    assert (own / 'out.pth').exists()


def test_a_folder_of_images(data):
    dataset = DATASETS.build(adapt.target_dataset(data / 'target', [
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomCrop', crop_size=(8, 8), cat_max_ratio=0.5), dict(type='PackSegInputs')]))
    assert [Path(dataset.get_data_info(index)['img_path']).name for index in range(4)] == [
        '1.png', '3.png', '0.JPG', '2.JPG']
    assert dataset[0]['inputs'].shape == (3, 8, 8) and not dataset.metainfo['classes']


def test_text_of_a_config():
    value = dict(a=(1, ), b=dict([('x.y', None)]), c=[dict(name='x' * 30) for _ in range(4)], d='e')
    text = adapt.assignment('key', value)
    assert eval(text.removeprefix('key = ')) == value
    assert max(map(len, text.splitlines())) <= 100
