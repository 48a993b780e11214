# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Folders of images, as people keep them: every layout and every kind of file."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stl_conveyor.errors import BadImage, ConfigError
from stl_conveyor.vision.image_folder import list_images, open_square

RED = (200, 30, 40)


def picture(path, colour=RED, mode='RGB', size=(40, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, colour).convert(mode).save(path)
    return path


def table(path, *rows):
    path.write_text('\n'.join(rows) + '\n', encoding='utf-8')


# What a file may be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    'mode, name',
    [
        ('RGB', 'a.jpg'),
        ('RGB', 'a.png'),
        ('L', 'a.png'),
        ('CMYK', 'a.jpg'),
        ('P', 'a.png'),
        ('P', 'a.gif'),
        ('RGBA', 'a.webp'),
        ('LA', 'a.png'),
        ('RGB', 'a.bmp'),
        ('CMYK', 'a.tif'),
    ],
)
def test_every_kind_of_file_becomes_rgb(tmp_path, mode, name):
    image = open_square(picture(tmp_path / name, mode=mode), 32)
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8
    grey = np.full(3, round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2]))
    expected = grey if mode in ('L', 'LA') else np.array(RED)
    assert np.abs(image.mean((0, 1)) - expected).max() < 8


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:, 10:] = (*RED, 255)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    image = open_square(tmp_path / 'a.png', 20)
    assert (image[:, :8] == 255).all() and (image[:, 12:] == RED).all()


def test_sixteen_bits_keep_their_brightness(tmp_path):
    Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(tmp_path / 'a.png')
    assert (open_square(tmp_path / 'a.png', 8) == 100).all()


def test_a_photo_is_turned_upright_and_its_middle_taken(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40, 0] = np.linspace(0, 250, 20).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / 'a.png', exif=exif)
    image = open_square(tmp_path / 'a.png', 20)
    assert (np.diff(image[:, :, 0].astype(int), axis=0) > 0).all()


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n' + bytes(20)])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / 'broken.png').write_bytes(content)
    with pytest.raises(BadImage, match='broken.png'):
        open_square(tmp_path / 'broken.png', 32)


def test_a_file_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / 'short.jpg'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(BadImage, match='short.jpg'):
        open_square(path, 32)


# Where files may lie --------------------------------------------------------------------------


def test_a_folder_for_each_class_at_any_depth(tmp_path):
    for name in (
        'nut/a.jpg',
        'nut/monday/b.PNG',
        'bolt/c.jpeg',
        'bolt/notes.txt',
        '.git/x.jpg',
        'bolt/.hidden.jpg',
        'top.jpg',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    listing = list_images(tmp_path)
    assert listing.labels == ('bolt', 'nut')
    assert [(path.name, label) for path, label in listing.splits['all']] == [
        ('c.jpeg', 'bolt'),
        ('a.jpg', 'nut'),
        ('b.PNG', 'nut'),
    ]


@pytest.mark.parametrize('validation', ['val', 'valid', 'validation'])
def test_splits_by_folder(tmp_path, validation):
    for split in ('train', validation):
        for label in ('a', 'b'):
            picture(tmp_path / split / label / '1.png')
    listing = list_images(tmp_path)
    assert set(listing.splits) == {'train', 'val'}
    assert len(listing.splits['val']) == 2


def test_splits_by_table_with_numbers_in_their_order(tmp_path):
    for number in range(12):
        picture(tmp_path / 'files' / f'{number}.png')
    table(
        tmp_path / 'train.csv',
        'path,fine,coarse',
        *(f'files/{k}.png,{k},{k // 3}' for k in range(12)),
    )
    assert list_images(tmp_path).labels == ('0', '1', '2', '3')
    fine = list_images(tmp_path, 'fine')
    assert fine.labels == tuple(map(str, range(12)))
    assert fine.splits['train'][10][1] == '10'


def test_a_table_without_a_header_and_one_with_a_label_column(tmp_path):
    for number in range(4):
        picture(tmp_path / f'{number}.png')
    table(tmp_path / 'train.csv', *(f'{k}.png,c{k % 2}' for k in range(4)))
    assert list_images(tmp_path).labels == ('c0', 'c1')
    assert len(list_images(tmp_path).splits['train']) == 4
    table(tmp_path / 'train.csv', 'path,label,remark', *(f'{k}.png,c{k % 2},x' for k in range(4)))
    assert list_images(tmp_path).labels == ('c0', 'c1')


def refused(folder, *words, **arguments):
    with pytest.raises(ConfigError) as caught:
        list_images(folder, **arguments)
    for word in words:
        assert word in str(caught.value)


def test_what_cannot_be_used_is_named(tmp_path):
    refused(tmp_path / 'nowhere', 'nowhere', 'folder')
    refused(tmp_path, 'no class')
    picture(tmp_path / 'only' / '1.png')
    refused(tmp_path, 'one class (only)', 'two')
    picture(tmp_path / 'Only' / '2.png')
    refused(tmp_path, "'Only'", "'only'", 'case')
    refused(tmp_path, 'train.csv', label_column='fine')


def test_a_split_with_a_class_that_training_lacks_is_named(tmp_path):
    for name in ('train/a', 'train/b', 'val/c'):
        picture(tmp_path / name / '1.png')
    refused(tmp_path, "val has the class 'c'")


def test_a_validation_split_alone_is_refused(tmp_path):
    for name in ('val/a', 'val/b'):
        picture(tmp_path / name / '1.png')
    refused(tmp_path, 'no train')


def test_a_class_may_be_called_train(tmp_path):
    for name in ('train', 'plane', 'test'):
        picture(tmp_path / name / '1.png')
    assert list_images(tmp_path).labels == ('plane', 'test', 'train')


def test_two_names_for_one_split_are_refused(tmp_path):
    for name in ('train/a', 'train/b', 'val/a', 'validation/b'):
        picture(tmp_path / name / '1.png')
    refused(tmp_path, 'val and validation')


def test_a_table_that_is_wrong_is_named(tmp_path):
    path = tmp_path / 'train.csv'
    path.write_text('', encoding='utf-8')
    refused(tmp_path, 'train.csv', 'empty')
    table(path, 'path,label', 'a.png,1', 'b.png,2')
    refused(tmp_path, '2 of 2 files do not exist', 'a.png')
    picture(tmp_path / 'a.png')
    table(path, 'path,label', 'a.png,1', 'b.png')
    refused(tmp_path, 'row 3')
    table(path, 'path,label', 'a.png,1')
    refused(tmp_path, "no column 'fine'", 'path, label', label_column='fine')
