# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Folders as people have them: what is read, what is left out and why, and where to point."""

from __future__ import annotations

import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

Image = pytest.importorskip('PIL.Image')

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.vision import image_inventory  # noqa: E402
from stl_conveyor.vision.image import read_image  # noqa: E402
from stl_conveyor.vision.image_folder import list_images, read_listing  # noqa: E402
from stl_conveyor.vision.image_inventory import AGAIN, CONFLICT, UNREADABLE, look_through  # noqa: E402


def picture(path, seed=0, size=(24, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def classes(folder, names=('a', 'b'), count=3, start=0):
    for k, name in enumerate(names):
        for i in range(count):
            picture(folder / name / f'{i}.png', start + 100 * k + i)


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """A folder with every kind of thing that lies in folders of pictures."""
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    classes(tmp_path)
    picture(tmp_path / 'a' / 'UPPER.JPG', 50)
    picture(tmp_path / 'a' / 'monday' / 'deep.bmp', 51)
    for junk in ('a/@eaDir/x.jpg', 'a/.thumbnails/x.jpg', '__MACOSX/a/x.jpg', 'b/#recycle/x.png'):
        picture(tmp_path / junk, 60)
    for name in ('a/IMG.HEIC', 'a/film.mp4', 'b/raw.CR2', 'b/notes.txt', 'b/.DS_Store', 'top.txt'):
        (tmp_path / name).write_bytes(b'x')
    (tmp_path / 'a' / 'link.png').symlink_to('0.png')
    (tmp_path / 'a' / 'nowhere.png').symlink_to('gone.png')
    (tmp_path / 'b' / 'loop').symlink_to(tmp_path)
    picture(tmp_path / 'loose.png', 70)
    (tmp_path / 'empty').mkdir()
    return tmp_path


def test_every_file_is_read_or_left_out_with_the_reason(mixed):
    listing = list_images(mixed)
    assert listing.labels == ('a', 'b')
    read = {path.relative_to(mixed).as_posix() for path, _ in listing.splits['all']}
    assert read == {
        *(f'{name}/{i}.png' for name in 'ab' for i in range(3)),
        *('a/UPPER.JPG', 'a/monday/deep.bmp', 'a/link.png'),
    }
    why = {entry.path.relative_to(mixed).as_posix(): entry.why for entry in listing.left_out}
    assert why['a/@eaDir'] == why['__MACOSX'] == why['b/#recycle'] == image_inventory.PREVIEWS
    assert why['a/.thumbnails'] == why['b/.DS_Store'] == image_inventory.HIDDEN
    assert 'pillow-heif' in why['a/IMG.HEIC'] and 'raw photos' in why['b/raw.CR2']
    assert 'films' in why['a/film.mp4'] and why['loose.png'] == image_inventory.IN_NO_CLASS
    assert why['a/nowhere.png'] == why['b/loop'] == image_inventory.LINK
    assert why['b/notes.txt'] == why['top.txt'] == image_inventory.OTHER
    lines = ' | '.join(listing.lines(mixed))
    assert '9 pictures are read: 7 .png, 1 .jpg, 1 .bmp' in lines
    assert '1 .heic (pip install pillow-heif, or export them as JPEG), such as a/IMG.HEIC' in lines
    assert '2 classes: a 6, b 3' in lines


def test_photos_of_a_telephone_are_read_where_pillow_heif_is_installed(tmp_path, monkeypatch):
    calls = []
    module = SimpleNamespace(register_heif_opener=lambda: calls.append(1))
    monkeypatch.setitem(sys.modules, 'pillow_heif', module)
    classes(tmp_path)
    (tmp_path / 'a' / 'IMG.HEIC').write_bytes(b'x')
    assert any(path.name == 'IMG.HEIC' for path, _ in list_images(tmp_path).splits['all'])
    assert calls


@pytest.mark.parametrize(
    'train, val, test',
    [('Train', 'Validation', 'Test'), ('TRAIN', 'VALID', 'TESTING'), ('training', 'Val', 'test')],
)
def test_names_of_splits_in_any_case(tmp_path, train, val, test):
    for k, split in enumerate((train, val, test)):
        classes(tmp_path / split, start=1000 * k)
    listing = list_images(tmp_path)
    assert listing.labels == ('a', 'b') and set(listing.splits) == {'train', 'val', 'test'}


def test_two_names_for_one_split_are_refused(tmp_path):
    classes(tmp_path / 'train')
    classes(tmp_path / 'Training')
    with pytest.raises(ConfigError, match='Training and train, which mean the same'):
        list_images(tmp_path)


def zipped(folder):
    path = folder / 'items.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/0.txt', 'x')
    return path


def wrapped(folder):
    classes(folder / 'dataset')
    (folder / 'README.md').write_text('x')
    return folder


def imagenet(folder):
    for split in ('train', 'val'):
        classes(folder / 'ILSVRC' / 'Data' / 'CLS-LOC' / split)
    return folder


def yolo(folder):
    for split in ('train', 'valid'):
        picture(folder / split / 'images' / '0.jpg')
        (folder / split / 'labels').mkdir()
        (folder / split / 'labels' / '0.txt').write_text('0 .5 .5 1 1')
    (folder / 'data.yaml').write_text('names: [a, b]')
    return folder


def voc(folder):
    picture(folder / 'JPEGImages' / '0.jpg')
    (folder / 'Annotations').mkdir()
    return folder


def coco(folder):
    picture(folder / 'train2017' / '0.jpg')
    (folder / 'annotations').mkdir()
    (folder / 'annotations' / 'instances.json').write_text('{}')
    return folder


def one_hot(folder):
    picture(folder / 'train' / '0.jpg')
    (folder / 'train' / '_classes.csv').write_text('filename, a, b\n0.jpg, 1, 0\n')
    return folder


def flat(folder):
    for k in range(4):
        picture(folder / f'a_{k}.png', k)
    return folder


def names_alone(folder):
    picture(folder / '0.jpg')
    (folder / 'train.csv').write_text('image,choice\n/data/upload/0.jpg,a\n')
    return folder


@pytest.mark.parametrize(
    'made, said',
    [
        (zipped, 'is an archive; unpack it'),
        (wrapped, 'the classes further down: give .*/dataset'),
        (imagenet, 'the classes further down: give .*/ILSVRC/Data/CLS-LOC'),
        (yolo, 'YOLO.*boxes'),
        (voc, 'VOC.*boxes'),
        (coco, 'COCO.*boxes'),
        (one_hot, 'train/_classes.csv .*write train.csv'),
        (flat, '4 pictures that lie in no folder'),
        (names_alone, '0.jpg lies: write the name alone'),
    ],
)
def test_layouts_that_are_not_taken_say_where_to_point(tmp_path, made, said):
    with pytest.raises(ConfigError, match=said):
        list_images(made(tmp_path))


def test_refused_folder_of_heic_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    for name in 'ab':
        (tmp_path / name).mkdir()
        (tmp_path / name / 'IMG.HEIC').write_bytes(b'x')
    with pytest.raises(ConfigError, match='no class(.|\n)*2 .heic .pip install pillow-heif'):
        list_images(tmp_path)


def test_uneven_classes_are_said(tmp_path):
    classes(tmp_path, ('a',), 10)
    classes(tmp_path, ('b',), 2, start=500)
    assert any(
        'uneven: a has 10 images, b 2' in line for line in list_images(tmp_path).lines(tmp_path)
    )
    classes(tmp_path, ('b',), 9, start=500)
    assert not any('uneven' in line for line in list_images(tmp_path).lines(tmp_path))


def test_what_nobody_can_learn_from_is_left_out_of_every_split(tmp_path):
    for k, split in enumerate(('train', 'test')):
        classes(tmp_path / split, start=1000 * k)
    train, test = tmp_path / 'train', tmp_path / 'test'
    (train / 'a' / 'broken.jpg').write_bytes(b'no image')
    (train / 'a' / 'again.png').write_bytes((train / 'a' / '0.png').read_bytes())
    (test / 'a' / 'seen.png').write_bytes((train / 'a' / '1.png').read_bytes())
    (train / 'b' / 'conflict.png').write_bytes((train / 'a' / '2.png').read_bytes())
    listing = list_images(tmp_path)
    said = []
    read = read_listing(listing, 16, progress=lambda done, total: said.append((done, total)))
    why = {entry.path.relative_to(tmp_path).as_posix(): entry.why for entry in read.left_out}
    assert why['train/a/broken.jpg'] == UNREADABLE
    assert why['train/b/conflict.png'] == why['train/a/2.png'] == CONFLICT
    assert why['train/a/1.png'] == AGAIN  # its copy is a test image
    assert sorted(path for path in why if why[path] == AGAIN) in (
        ['train/a/0.png', 'train/a/1.png'],
        ['train/a/1.png', 'train/a/again.png'],
    )
    assert len(read.found['train'].classes) == len(read.files['train']) == 4
    assert said[-1] == (16, 16)
    # Who reads the test split alone, as an evaluation does, leaves out the same of it.
    alone = read_listing(listing, 16, ('test',))
    assert alone.files['test'] == read.files['test']
    assert np.array_equal(alone.found['test'].images, read.found['test'].images)


def test_a_folder_itself_without_what_lies_deeper(tmp_path):
    picture(tmp_path / '0.png')
    picture(tmp_path / 'more' / '1.png')
    assert [path.name for path in look_through(tmp_path).read] == ['0.png', '1.png']
    inventory = look_through(tmp_path, deep=False)
    assert [path.name for path in inventory.read] == ['0.png']
    assert [entry.why for entry in inventory.left_out] == [image_inventory.DEEPER]


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('colour', [False, True])
def test_files_of_few_bits_in_samples_of_sixteen_are_not_black(tmp_path, bits, colour):
    cv2 = pytest.importorskip('cv2')
    pixels = np.full((16, 16, 3) if colour else (16, 16), 100 << 8, np.uint16)
    pixels[:4] = 65535
    cv2.imwrite(str(tmp_path / 'a.png'), pixels >> (16 - bits))
    image = read_image(tmp_path / 'a.png')
    assert image.shape == (16, 16, 3)
    assert abs(image.astype(int) - (pixels >> 8).reshape(16, 16, -1)).max() <= 1


def test_floats_of_one_and_of_255_are_as_bright(tmp_path):
    for name, largest in (('one.tif', 1.0), ('many.tif', 255.0)):
        pixels = np.full((8, 8), largest * 0.4, np.float32)
        pixels[0] = largest
        Image.fromarray(pixels).save(tmp_path / name)
        image = read_image(tmp_path / name)
        assert image[0, 0, 0] == 255 and image[4, 4, 0] == 102
