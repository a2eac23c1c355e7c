"""Models of mmseg's zoo and of one's own, adapted to a folder of images, on drawn data."""
import re
import subprocess
import sys
from pathlib import Path

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
    """The number of classes in all heads of a zoo config."""
    cfg = Config.fromfile(adapt.load_config(base)[0], import_custom_modules=False)
    auxiliary = cfg.model.get('auxiliary_head')
    number = dict(num_classes=len(CLASSES))
    model = dict(decode_head=dict(number))
    if isinstance(auxiliary, dict):
        model['auxiliary_head'] = number
    elif auxiliary:
        model['auxiliary_head'] = [dict(head.to_dict(), **number) for head in auxiliary]
    losses = cfg.model.decode_head.loss_decode
    if isinstance(losses, list):  # their class weights are Cityscapes'
        model['decode_head']['loss_decode'] = [
            {key: value for key, value in loss.items() if key != 'class_weight'}
            for loss in losses]
    return model


def save(cfg, path, classes=CLASSES):
    """Weights of a supervised training that has just begun."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    save_checkpoint(dict(meta=dict(dataset_meta=dict(
        classes=classes, palette=[[200, 0, 0], [0, 200, 0], [0, 0, 200]])),
        state_dict=model.state_dict()), str(path))
    return model


@pytest.mark.parametrize('name', FAMILIES)
def test_a_family_of_the_zoo_adapts(name, data, tmp_path):
    if 'convnext' in name:
        pytest.importorskip('mmpretrain', reason='its backbone is of mmpretrain')
    config, out = tmp_path / 'config.py', tmp_path / 'out.py'
    config.write_text(supervised(data, name, **heads(name)))
    path, cfg = adapt.load_config(str(config))
    method = 'feature-level' if 'pidnet' in name else 'structseg'
    model = adapt.build(cfg, method)
    save(cfg, tmp_path / 'weights.pth')
    adapt.check_checkpoint(model, str(tmp_path / 'weights.pth'))
    measured = adapt.measure(model, method)
    assert (measured.stride, measured.logits_stride) == FAMILIES[name]
    out.write_text(adapt.adaptation(
        cfg, path.name, str(tmp_path / 'weights.pth'), data / 'target', method, measured))
    assert max(map(len, out.read_text().splitlines())) <= 130  # but paths, all within 100

    new = Config.fromfile(out)
    if new.optim_wrapper.type == 'AmpOptimWrapper':  # for a GPU
        new.optim_wrapper.type = 'OptimWrapper'
    if 'constructor' in cfg.optim_wrapper:  # layer-wise rates
        assert new.optim_wrapper.segmentor.constructor == cfg.optim_wrapper.constructor
    assert new.train_cfg.max_iters == cfg.train_cfg.max_iters
    model = MODELS.build(new.model)
    model.init_weights()  # loads nothing, as load_from will
    check_fit(model, load_from_local(new.load_from))
    wrapper = build_optim_wrapper(model, new.optim_wrapper)
    assert [*wrapper.keys()] == ['segmentor', *adapt.TERMS[method]]
    before = {key: value.clone() for key, value in model.named_parameters()}
    batches = {domain: next(iter(Runner.build_dataloader(new[key], seed=0)))
               for domain, key in (('source', 'train_dataloader'), ('target', 'target_dataloader'))}
    assert all('gt_sem_seg' not in sample for sample in batches['target']['data_samples'])
    losses = model.train_step(batches, wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert {'reconstruction.loss_target', 'reconstruction.loss_source'} <= set(losses)
    moved = [key for key, value in model.named_parameters() if not torch.equal(value, before[key])]
    for part in ('backbone.', 'decode_head.', *(f'terms.{term}.' for term in adapt.TERMS[method])):
        assert any(key.startswith(part) for key in moved), part


@pytest.mark.parametrize('name, method, words', [
    ('mask2former_r50_8xb2-90k_cityscapes-512x1024', 'structseg', 'Mask2FormerHead classifies'),
    ('pidnet-s_2xb6-120k_1024x1024-cityscapes', 'output-level', 'PIDHead gives several maps'),
    ('knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512', 'structseg', 'several maps'),
])
def test_heads_without_one_map_of_logits(name, method, words):
    def raiser():
        cfg = adapt.load_config(name)[1]
        adapt.measure(adapt.build(cfg, method), method)

    assert words in sentence(raiser)
    assert 'choose --method feature-level; --method statistics' in sentence(raiser)


def test_a_softmax_of_one_channel():
    head = dict(type='FCNHead', num_classes=2, out_channels=1)
    cfg = Config(dict(model=dict(type='EncoderDecoder', decode_head=head)))
    assert 'out_channels=1, whose softmax tells an adversary nothing' in sentence(
        lambda: adapt.build(cfg, 'output-level'))


def test_layer_wise_rates_and_mixed_precision_remain(tmp_path):
    """ConvNeXt's, whose backbone may be absent."""
    path, cfg = adapt.load_config('convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512')
    out = tmp_path / 'out.py'
    out.write_text(adapt.adaptation(
        cfg, str(path), 'x.pth', tmp_path, 'structseg', adapt.Measured(2, 384, 16, 4)))
    optim = Config.fromfile(out, import_custom_modules=False).optim_wrapper
    assert optim.segmentor == {key: cfg.optim_wrapper[key] for key in (
        'constructor', 'optimizer', 'paramwise_cfg')}
    assert (optim.type, optim.loss_scale) == ('AmpOptimWrapper', 'dynamic')
    assert optim.adversary.optimizer.type == 'Adam'


def test_only_the_difference_is_written(tmp_path):
    """On a config of this package, which has its runtime."""
    cfg = Config.fromfile(ROOT / 'configs/structseg/segformer_effnet-lite0_demo_source-only.py')
    text = adapt.adaptation(cfg, str(ROOT / 'configs/structseg/x.py'), 'x.pth', tmp_path,
                            'output-level', adapt.Measured(2, 112, 16, 4))
    keys = re.findall(r'^(\w+) =', text, re.MULTILINE)
    assert keys == ['_base_', 'model', 'load_from', 'optim_wrapper', 'target_dataloader']
    assert 'segmentor' not in text.split('optim_wrapper')[1]


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
def own(data, tmp_path):
    """A small model of one's own and its weights."""
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
    save(Config.fromfile(config), tmp_path / 'own.pth')
    return tmp_path


def command(folder, *args):
    """``python -m structseg_mmseg adapt`` as from a shell, in a folder."""
    return subprocess.run(
        [sys.executable, '-m', 'structseg_mmseg', 'adapt', *map(str, args)], cwd=folder,
        env=dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
                 PYTHONWARNINGS='ignore', MPLCONFIGDIR=str(folder)),
        capture_output=True, text=True)


@pytest.mark.parametrize('method', ['structseg', 'statistics'])
def test_the_command_trains_tests_and_draws(own, data, method):
    done = command(own, 'own.py', '--checkpoint', 'own.pth', '--target', data / 'target',
                   '--method', method, '--train')
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    last = done.stdout.strip().splitlines()[-2]
    assert re.fullmatch(r'mIoU on the validation data of own\.py: [\d.]+ before, [\d.]+ after '
                        r'\([+-][\d.]+\)', last)
    pictures = sorted((own / 'work_dirs/my_adaptation/target').iterdir())
    assert [path.name for path in pictures] == ['0_1.png', '1_3.png', '2_0.png', '3_2.png']
    if method == 'structseg':
        assert '\n\nno problem found\n' in done.stdout
        text = (own / 'my_adaptation.py').read_text()
        first = next(line for line in text.splitlines() if not line.startswith('#'))
        assert first == "_base_ = 'own.py'"  # below a comment as long as the folder's name asks for
        assert (own / 'work_dirs/my_adaptation/iter_3.pth').exists()
        return
    # Weights are the same, statistics are not.
    before, after = (load_from_local(str(own / name))['state_dict']
                     for name in ('own.pth', 'my_adaptation.pth'))
    changed = {key.rsplit('.')[-1] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {'running_mean', 'running_var', 'num_batches_tracked'}


def test_input_errors(own, data):
    def adapted(*args, config='own.py', checkpoint='own.pth', target=data / 'target'):
        return call('adapt.py', own / config, '--checkpoint', own / checkpoint, '--target', target,
                    '--out', own / 'out.py', *args, check=False)

    (own / 'empty').mkdir()
    fails(adapted(target=own / 'empty'), r'empty holds no image \(\.bmp')
    fails(adapted(target=own / 'nowhere'), 'there is no folder .*nowhere')
    fails(adapted(checkpoint='no.pth'), r'there is no checkpoint .*no\.pth')
    fails(adapted(config='no.py'), r'there is no config .*no\.py')
    cfg = Config.fromfile(own / 'own.py')
    cfg.model.decode_head.num_classes = 4
    save(cfg, own / 'four.pth', (*CLASSES, 'more'))
    fails(adapted(checkpoint='four.pth'), r'four\.pth was trained on 4 classes where .* has 3')
    save(cfg, own / 'unnamed.pth', None)
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
    save(Config.fromfile(own / 'plain.py'), own / 'plain.pth')
    fails(call('adapt.py', own / 'plain.py', '--checkpoint', own / 'plain.pth', '--target',
               data / 'target', '--method', 'statistics', '--out', own / 'out.py', check=False),
          'no batch normalisation')
    assert not (own / 'out.pth').exists()


def test_a_pooled_branch_takes_two_images(own, data):
    (own / 'pooled.py').write_text("""_base_ = 'own.py'
model = dict(decode_head=dict(_delete_=True, type='PSPHead', in_channels=64, channels=8,
                              in_index=0, num_classes=3, norm_cfg=dict(type='BN')))
""")
    save(Config.fromfile(own / 'pooled.py'), own / 'pooled.pth')
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
