"""Files as people have them: docs/data.md has the same in a table."""
import io
import os
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from structseg_mmseg.datasets import UnreadableInputError, check_headers
from structseg_mmseg.errors import InputError
from tests.helpers.data import PIPELINE, UNLABELLED, cityscapes, gta, write_gta, write_image


def checked(dataset, index=0):
    """A sample that tools/check.py would let pass."""
    info = dataset.get_data_info(index)
    sample = dataset[index]
    check_headers([info[key] for key in ('img_path', 'seg_map_path') if key in info],
                  dataset.uneven)
    return sample


ROWS, COLUMNS = np.mgrid[:36, :64]
RGB = np.stack([4 * ROWS, 3 * COLUMNS, ROWS + COLUMNS], -1).astype(np.uint8)  # JPEG keeps it
IDS = (COLUMNS % 35).astype(np.uint8)
PICTURE = Image.fromarray(RGB)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown turned by 90 degrees, clockwise


def encoded(picture, kind='PNG', **kwargs):
    """A file's bytes, of a Pillow image or, in BGR, of an array."""
    if isinstance(picture, np.ndarray):
        return cv2.imencode(f'.{kind.lower()}', picture)[1].tobytes()
    buffer = io.BytesIO()
    picture.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def palette(indices):
    picture = Image.fromarray(indices)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    return picture


FINE = np.random.default_rng(0).integers(0, 2**16, (36, 64, 3), np.uint16)
IMAGES = {
    '16 bits': (encoded(FINE), FINE[..., ::-1] >> 8),
    '16 bits of grey': (encoded(FINE[..., 0]), 'has pixels of type I;16: save it with 8 bits'),
    'grey': (encoded(IDS), np.stack([IDS] * 3, -1)),
    'RGBA': (encoded(Image.fromarray(np.dstack([RGB, IDS]))), RGB),
    'palette': (encoded(palette(IDS)), np.array(palette(IDS).convert('RGB'))),
    'CMYK': (encoded(PICTURE.convert('CMYK'), 'JPEG', quality=95), RGB),
    'another suffix': (encoded(PICTURE, 'JPEG', quality=95), RGB),
    'turned JPEG': (encoded(PICTURE, 'JPEG', exif=TURNED), 'has the EXIF orientation 6'),
    'turned PNG': (encoded(PICTURE, exif=TURNED), 'has the EXIF orientation 6'),
    'not to be turned': (encoded(PICTURE, exif=Image.Exif()), RGB),
    'truncated': (encoded(PICTURE)[:60], 'cannot be read'),
    'truncated JPEG': (encoded(PICTURE, 'JPEG')[:-400], 'cannot be read'),
    'empty': (b'', 'cannot be read'),
    'text': (b'not a picture', 'cannot be read'),
}


@pytest.mark.parametrize('case', IMAGES)
def test_images(tmp_path, case):
    """The pixels that it shows come out, by either decoder, or a sentence."""
    content, expected = IMAGES[case]
    path = write_gta(tmp_path, 1) / 'images/00001.png'
    path.write_bytes(content)
    for backend in ('pillow', 'cv2'):
        load = dict(type='LoadImageFromFile', imdecode_backend=backend)
        dataset = gta(tmp_path, pipeline=[load, *PIPELINE[1:]])
        if isinstance(expected, str):
            with pytest.raises(InputError, match=f'{path}.* {expected}') as error:
                checked(dataset)
            # What may be skipped in a training.
            assert isinstance(error.value, UnreadableInputError) == ('read' in expected)
        else:
            image = checked(dataset)['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
            tolerance = 8 if b'JFIF' in content or b'Adobe' in content else 0
            np.testing.assert_allclose(image.astype(int), expected, atol=tolerance)


def test_an_image_without_a_label_is_turned(tmp_path):
    """As it is meant to be shown."""
    write_gta(tmp_path, 1)
    (tmp_path / 'images/00001.png').write_bytes(encoded(PICTURE, exif=TURNED))
    dataset = gta(tmp_path, pipeline=UNLABELLED, data_prefix=dict(img_path='images'))
    np.testing.assert_array_equal(checked(dataset)['inputs'].permute(1, 2, 0)[..., [2, 1, 0]],
                                  np.rot90(RGB, -1))


LABELS = {
    'palette': (encoded(palette(IDS)), IDS),  # as GTA5's are
    'RGB': (encoded(RGB), 'is a colour image'),
    'grey with alpha': (encoded(Image.fromarray(np.dstack([IDS, IDS]))), 'is a colour image'),
    '16 bits': (encoded(IDS + np.uint16(256)), 'has pixels of type I;16: save it with 8 bits'),
    'another size': (encoded(IDS[:, :20]), 'has 20x36 pixels where its image has 64x36'),
    'turned': (encoded(Image.fromarray(IDS), exif=TURNED), 'has the EXIF orientation 6'),
    'id 35': (encoded(IDS + np.uint8(1)), 'holds label id 35: labelIds end at 34'),
    'id -1 or 255': (encoded(np.full_like(IDS, 255)), 'holds label id 255: labelIds end at 34'),
    'truncated': (encoded(IDS)[:100], 'cannot be read'),
    'empty': (b'', 'cannot be read'),
    'text': (b'not a picture', 'cannot be read'),
}


@pytest.mark.parametrize('case', LABELS)
def test_labels(tmp_path, case):
    content, expected = LABELS[case]
    path = write_gta(tmp_path, 1) / 'labels/00001.png'
    path.write_bytes(content)
    dataset = gta(tmp_path)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=f'{path}.* {expected}'):
            checked(dataset)
    else:
        np.testing.assert_array_equal(checked(dataset)['data_samples'].gt_sem_seg.data[0],
                                      dataset.label_lut[expected])


def test_images_of_one_pixel(tmp_path):
    """And of one row or column, whose labels are flat arrays to LoadAnnotations."""
    sizes = [(1, 1), (1, 64), (36, 1)]
    for index, size in enumerate(sizes):
        write_image(tmp_path / f'images/{index}.png', np.full((*size, 3), 9, np.uint8))
        write_image(tmp_path / f'labels/{index}.png', np.full(size, 7, np.uint8))
    for item, size in zip(gta(tmp_path), sizes):
        assert item['inputs'].shape == (3, *size)
        assert (item['data_samples'].gt_sem_seg.data == 0).all()
        assert item['data_samples'].gt_sem_seg.shape == size


def test_names(tmp_path):
    """Any characters and folders; by their whole suffix; none that are hidden."""
    names = ['Straße 1', 'город/улица', '街/道 2', '.folder/a']
    for name in names:
        write_image(tmp_path / f'images/{name}.png', RGB)
        write_image(tmp_path / f'labels/{name}.png', IDS)
    for name in ('город/._улица.png', 'город/улица.jpg', 'город/улица.png.part', 'README'):
        (tmp_path / f'images/{name}').write_bytes(b'none of them')
    (tmp_path / 'list.txt').write_text('\n'.join(names), encoding='utf-8')
    for options, expected in ((dict(), sorted(names)), (dict(ann_file='list.txt'), names)):
        dataset = gta(tmp_path, **options)
        assert [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))] == [
            f'{tmp_path}/images/{name}.png' for name in expected]
        assert all(item['inputs'].shape == (3, 36, 64) for item in dataset)


LISTS = {
    'marks, blank lines, a name twice': (
        '\ufeff\r\n00003\r\n \r\n./00001 \r\n00003'.encode(), ['00003', '00001', '00003']),
    'no such image': (b'00001\n00009\n', 'there is no image .*/images/00009.png: add it'),
    'with suffixes': (b'00001.png\n', 'there is no image .*/images/00001.png.png: add it'),
    'nothing': (b'\n', 'list.txt holds no image .*ann_file'),
    'UTF-16': ('00001\n'.encode('utf-16'), 'list.txt is not text in UTF-8: save it as such'),
    'absent': (None, 'there is no list .*/list.txt'),
}


@pytest.mark.parametrize('case', LISTS)
def test_list_files(tmp_path, case):
    content, expected = LISTS[case]
    write_gta(tmp_path)
    if content is not None:
        (tmp_path / 'list.txt').write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            gta(tmp_path, ann_file='list.txt')
    else:
        dataset = gta(tmp_path, ann_file='list.txt')
        assert [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))] == [
            f'{tmp_path}/images/{name}.png' for name in expected]


def test_links(tmp_path):
    """They are followed; one that leads nowhere is refused when it is read."""
    root = write_gta(tmp_path / 'gta')
    for kind in ('images', 'labels'):
        (root / kind / 'again').symlink_to(write_gta(tmp_path / 'other', 2) / kind)
    assert len(gta(root)) == 3 + 2
    assert gta(root)[4]['inputs'].shape == (3, 36, 64)
    image = root / 'images/00001.png'
    image.unlink()
    image.symlink_to(tmp_path / 'nowhere.png')
    with pytest.raises(UnreadableInputError, match=f'{image} .*cannot be read .*No such file'):
        gta(root)[0]


def test_a_file_without_the_right_to_read_it(tmp_path, monkeypatch):
    """As nobody, where root may read everything."""
    root = write_gta(tmp_path, 2)
    monkeypatch.chdir(root)
    dataset = gta('.')
    dataset[0]
    (root / 'images/00002.png').chmod(0)
    (root / 'images').chmod(0o755)
    root.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match='images/00002.png .*cannot be read .*Permission'):
            dataset[1]
    finally:
        os.seteuid(user)


def test_pairs_of_gta5_of_uneven_sizes(tmp_path):
    """They are used where the pipeline brings them to one size; other labels must fit."""
    for name in ('20800', '20801'):
        write_image(tmp_path / f'images/{name}.png', RGB)
        write_image(tmp_path / f'labels/{name}.png', cv2.resize(IDS, (8, 6)))
    resize = [dict(type='Resize', scale=(4, 3), keep_ratio=False)]
    dataset = gta(tmp_path, pipeline=[*PIPELINE[:3], *resize])
    with pytest.raises(InputError, match='20800.png has 8x6 pixels where its image has'):
        checked(dataset)
    assert checked(dataset, 1)['img'].shape[:2] == dataset[1]['gt_seg_map'].shape == (3, 4)


@pytest.mark.parametrize('listed', [False, True])
def test_each_folder_is_listed_once(tmp_path, monkeypatch, listed):
    """And samples take what their names do: so a million of them fit."""
    for number in range(200):
        name = f'city{number % 4}/{number:06d}'
        for path in (f'leftImg8bit/train/{name}_leftImg8bit.png',
                     f'gtFine/train/{name}_gtFine_labelIds.png'):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    names = [f'city{number % 4}/{number:06d}' for number in range(200)]
    (tmp_path / 'list.txt').write_text('\n'.join(names))
    scans, scandir = Counter(), os.scandir
    monkeypatch.setattr(os, 'scandir', lambda path: scans.update([str(path)]) or scandir(path))
    options = dict(ann_file='list.txt') if listed else {}
    dataset = cityscapes(tmp_path, **options)
    assert set(scans.values()) == {1} and len(scans) == 2 * (1 + 4)
    assert not dataset.data_list
    assert dataset.data_bytes.nbytes < 200 * (len('city0/000000') + 30)
    plain = cityscapes(tmp_path, serialize_data=False, **options)
    for index in (0, 77, 199, -1):
        info, other = dataset.get_data_info(index), plain.get_data_info(index)
        assert str(info) == str(other)
        if listed and index >= 0:
            assert info['seg_map_path'] == (
                f'{tmp_path}/gtFine/train/{names[index]}_gtFine_labelIds.png')
