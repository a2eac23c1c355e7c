"""The preflight on 25 tiny source images, of which a sample passes over some, and a tiny model."""
import re
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from structseg_mmseg.check import check, check_data, collected
from tests.helpers.data import write_cityscapes, write_gta, write_image
from tests.helpers.runs import CLASSES, runner_cfg
from tests.helpers.tools import call, run

UNSAMPLED = 3  # of 25 files, the sample leaves out number 3 and four others


@pytest.fixture
def place(tmp_path):
    """A training's data and config, all sound."""
    gta, cityscapes = write_gta(tmp_path / 'gta', 25), write_cityscapes(tmp_path / 'cs', 3)
    write_image(gta / 'images/00025.png', np.zeros((40, 72, 3), np.uint8))
    write_image(gta / 'labels/00025.png', np.full((40, 72), 7, np.uint8))
    cfg = runner_cfg(
        (gta, cityscapes), tmp_path / 'work/deep', 1000, source_batch=1,
        custom_imports=dict(imports=['structseg_mmseg']),
        val_cfg=dict(type='ValLoop'), test_cfg=dict(type='TestLoop'))
    cfg['val_evaluator'] = cfg['test_evaluator'] = dict(
        type='ClassIoUMetric', iou_metrics=['mIoU'])
    cfg['default_hooks']['checkpoint'].update(interval=100, max_keep_ckpts=2)
    cfg['val_dataloader'] = cfg['test_dataloader'] = dict(
        batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(cfg['target_dataloader']['dataset'],
                     data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
                     pipeline=cfg['train_dataloader']['dataset']['pipeline']))
    target = cfg['target_dataloader']['dataset']
    cfg['target_dataloader']['dataset'] = dict(type='ConcatDataset', datasets=[
        target, dict(target, data_prefix=dict(img_path='leftImg8bit/val'))])
    return SimpleNamespace(gta=gta, cityscapes=cityscapes, folder=tmp_path, cfg=Config(cfg))


def words(printed):
    return ' '.join(printed.split())


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_a_sound_training(place):
    labels = [cv2.imread(str(place.gta / f'labels/{index:05d}.png'), cv2.IMREAD_UNCHANGED)
              for index in np.linspace(1, 25, 20).round().astype(int)]
    ids = dict(zip(CLASSES, (7, 8, 11, 12, 13)))
    total = sum(np.isin(label, list(ids.values())).sum() for label in labels)
    place.cfg.dump(place.folder / 'config.py')
    before = files(place.folder)
    done = run('check.py', place.folder / 'config.py')
    assert done.stdout.endswith('\n\nno problem found\n')
    said = words(done.stdout)
    assert f'source 25 images in {place.gta}/images 20 opened, 64x36 to 72x40 20 labels' in said
    for name, label_id in ids.items():
        share = 100 * sum((label == label_id).sum() for label in labels) / total
        assert f'{name} {share:.1f}' in said
    assert ' in none of them' not in said
    assert re.search(
        r'target 6 images in \S+/train, \S+/val 6 opened, 64x32 labels are not read', said)
    assert 'validation 3 images' in said and 'test the same as validation' in said
    seconds, length = re.search(r'iteration (\S+) s, .* 1000 iterations take (\S+),', said).groups()
    hours, minutes, rest = map(int, length.split(':'))
    assert 3600 * hours + 60 * minutes + rest == pytest.approx(
        1000 * float(seconds), rel=0.01, abs=1)
    assert files(place.folder) == before


def missing_folder(place):
    shutil.rmtree(place.gta / 'images')


def image_without_label(place):
    next((place.cityscapes / 'gtFine/val').rglob('*.png')).unlink()


def label_of_another_size(place):
    write_image(place.gta / 'labels/00001.png', np.zeros((18, 32), np.uint8))


def label_id_out_of_range(place):
    write_image(place.gta / f'labels/{UNSAMPLED:05d}.png', np.full((36, 64), 40, np.uint8))


def corrupt_image(place):
    path = place.gta / f'images/{UNSAMPLED:05d}.png'
    path.write_bytes(path.read_bytes()[:60])


def unmapped_labels(place):
    dataset = place.cfg.val_dataloader.dataset
    dataset.indices = 1
    dataset.pipeline.pop(-2)


def corrupt_everywhere(place):
    for path in place.gta.glob('images/*'):
        path.write_bytes(path.read_bytes()[:60])


def missing_load_from(place):
    place.cfg.load_from = 'nowhere.pth'


def turned_image(place):
    place.cfg.train_dataloader.dataset.indices = 1
    picture = Image.open(place.gta / 'images/00001.png')
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(place.gta / 'images/00001.png', exif=exif)


def misspelt_key(place):
    place.cfg.model.terms.adversary.loss_wieght = 0.1


def misspelt_part(place):
    place.cfg.optim_wrapper.adverserial = place.cfg.optim_wrapper.pop('adversary')


def class_count_of_validation(place):
    place.cfg.val_dataloader.dataset.metainfo = dict(classes=CLASSES[:4])


@pytest.mark.parametrize('spoil,key,says', [
    (missing_folder, 'train', 'there is no folder .*gta/images: set data_root'),
    (image_without_label, 'val', 'there is no label .*_gtFine_labelIds.png: add it'),
    (label_of_another_size, 'train', '00001.png has 32x18 pixels where its image has 64x36: give'),
    (turned_image, 'train', '00001.png has the EXIF orientation 6'),
    (unmapped_labels, 'val', r'_labelIds.png is loaded with class \d+ of 5: map its ids'),
])
def test_a_problem_of_the_data_is_one_sentence(place, spoil, key, says):
    spoil(place)
    problem, = check_data(place.cfg, f'{key}_dataloader', full=False)[1]
    assert re.search(says, problem) and '\n' not in problem


def test_pairs_of_gta5_of_uneven_sizes_are_no_problem(place):
    for number in ('00001', '20801'):
        write_image(place.gta / f'images/{number}.png', np.zeros((36, 64, 3), np.uint8))
        write_image(place.gta / f'labels/{number}.png', np.zeros((18, 32), np.uint8))
    problem, = check_data(place.cfg, 'train_dataloader', full=True)[1]
    assert '00001.png has 32x18 pixels' in problem


@pytest.mark.parametrize('spoil,says', [
    (misspelt_part, 'model.terms.adversary has no optimizer: add optim_wrapper.adversary'),
    (missing_load_from, '.*nowhere.pth'),
    (class_count_of_validation, 'the validation data has 4 classes where decode_head has 5: set'),
])
def test_what_does_not_fit_is_one_sentence(place, capsys, spoil, says):
    spoil(place)
    problem, = check(place.cfg)
    assert re.match(says, problem) and '\n' not in problem
    assert 'iteration not tried, see below' in words(capsys.readouterr().out)


@pytest.mark.parametrize('spoil,says', [
    (label_id_out_of_range, '00003.png holds label id 40: labelIds end at 34'),
    (corrupt_image, 'images/00003.png or .* cannot be read .*: restore the file'),
])
def test_full_reads_what_the_sample_passes_over(place, spoil, says):
    spoil(place)
    found, = check_data(place.cfg, 'train_dataloader', full=True)[1]
    assert re.search(says, found)
    assert check_data(place.cfg, 'train_dataloader', full=False)[1] == []


def test_of_many_bad_files_some_are_listed(place):
    corrupt_everywhere(place)
    problems = check_data(place.cfg, 'train_dataloader', full=True)[1]
    assert len(problems) == 21 and all('cannot be read' in text for text in problems[:20])
    assert problems[20].startswith('5 more samples of train_dataloader are bad')


def test_a_gpu_that_is_too_small(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'GPU')
    problems = []
    with collected(problems, 'an iteration fails'):
        raise torch.OutOfMemoryError('out of memory')
    assert problems[0].startswith(
        'an iteration fails: GPU has not enough memory: lower batch_size of ')


def test_several_problems_are_all_listed(place):
    for spoil in (label_id_out_of_range, image_without_label, misspelt_key):
        spoil(place)
    config = place.folder / 'config.py'
    place.cfg.dump(config)
    done = call('check.py', config, '--full', check=False)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert '\r' not in done.stdout  # no terminal
    problems = [line for line in done.stdout.splitlines() if re.match(r'\d\. ', line)]
    expected = 'label id 40', 'there is no label', 'loss_wieght'
    assert len(problems) == len(expected)
    assert all(words in problem for words, problem in zip(expected, problems))
