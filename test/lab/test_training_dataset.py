# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Preparing a folder of images: splits that keep near-duplicates together, and honest notes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies
from PIL import Image

pytest.importorskip('scipy')

from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor_lab.data.dataset import (  # noqa: E402
    Dataset,
    difference_hash,
    draw_split,
    near_duplicates,
    prepare,
)
from stl_conveyor_lab.data.moved_images import fingerprints, moved_pairs  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

SIZE = 96


def scenes(count, seed):
    """Return pictures u8[N, S, S, 3] that differ in their coarse structure."""
    rng = np.random.default_rng(seed)
    return [
        np.asarray(
            Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize(
                (SIZE, SIZE), Image.Resampling.BICUBIC
            )
        )
        for _ in range(count)
    ]


def altered(image, seed=0):
    """Return the picture as another exposure and another compression would show it."""
    rng = np.random.default_rng(seed)
    return np.clip(image * 0.9 + rng.normal(0, 2, image.shape) + 6, 0, 255).astype(np.uint8)


def write(folder, label, images, first=0, name='{:03d}.png'):
    (folder / label).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, first):
        Image.fromarray(image).save(folder / label / name.format(number))


def silent(_):
    pass


def images_of(data, split):
    return {image.tobytes() for image in data.load(split).images}


# Near-duplicates ------------------------------------------------------------------------------


def test_another_exposure_is_near_and_another_scene_is_not():
    images = scenes(12, 1)
    stack = np.stack(images + [altered(image) for image in images])
    groups = near_duplicates(difference_hash(stack), [f'{k}x' for k in range(24)])
    assert (groups[:12] == groups[12:]).all()
    assert len(np.unique(groups)) == 12


def test_files_that_count_on_are_near_with_less_likeness():
    hashes = np.ones((3, 128), np.int8)
    hashes[1, :20] = -1
    hashes[2, :40] = -1
    assert len(np.unique(near_duplicates(hashes, ['a_1.png', 'b_7.png', 'c_3.png']))) == 3
    assert len(np.unique(near_duplicates(hashes, ['a_1.png', 'a_2.png', 'a_3.png']))) == 1
    assert len(np.unique(near_duplicates(hashes, ['a_1.png', 'a_9.png', 'a_20.png']))) == 3


def moved(image, down, right, seed=0):
    """Return the picture as a later frame would show it: moved, and with the noise of a camera."""
    rng = np.random.default_rng(seed)
    frame = np.roll(image, (down, right), (0, 1)) + rng.normal(0, 3, image.shape)
    return np.clip(frame, 0, 255).astype(np.uint8)


def test_frames_of_one_item_that_moves_are_near_whatever_their_names():
    images = scenes(8, 5)
    frames = [moved(image, 4 * k, 3 * k, k) for k in range(4) for image in images]
    pairs = moved_pairs(fingerprints(np.stack(frames)))
    names = [f'{number * 7919 % 1013:04x}.jpg' for number in range(len(frames))]
    groups = near_duplicates(difference_hash(np.stack(frames)), names, pairs).reshape(4, 8)
    assert (groups == groups[0]).all()
    assert len(np.unique(groups)) == 8
    # The hash alone does not know them again.
    alone = near_duplicates(difference_hash(np.stack(frames)), names)
    assert len(np.unique(alone)) > 8


def test_pictures_of_two_sets_are_compared_with_each_other_alone():
    images = scenes(5, 9)
    second = [images[3], *scenes(2, 10), moved(images[0], 6, -5)]
    pairs = moved_pairs(fingerprints(np.stack(images)), fingerprints(np.stack(second)))
    assert sorted(pairs.tolist()) == [[0, 3], [3, 0]]


def test_pictures_without_any_structure_are_like_no_other():
    flat = np.full((3, SIZE, SIZE, 3), 90, np.uint8)
    flat[1] += 1
    assert moved_pairs(fingerprints(flat)).shape == (0, 2)
    assert moved_pairs(fingerprints(flat[:1])).shape == (0, 2)


@given(
    strategies.lists(strategies.integers(0, 30), min_size=6, max_size=80),
    strategies.integers(0, 2**32 - 1),
)
def test_every_part_gets_images_and_no_small_group_is_torn(numbers, seed):
    groups = np.unique(numbers, return_inverse=True)[1]
    parts = draw_split(groups, (0.15, 0.15), np.random.default_rng(seed))
    assert set(parts) == {0, 1, 2}
    assert (parts == 0).sum() >= 0.3 * len(parts) - 1
    if np.bincount(groups).max() <= 0.3 * len(groups):
        for group in np.unique(groups):
            assert len(set(parts[groups == group])) == 1
    else:
        # In one piece each, so that neighbours part at two places only.
        assert (np.diff(parts) != 0).sum() == 2


# Preparing ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Return 3 classes with 20 scenes each, every fourth photographed twice."""
    for seed, label in enumerate(('bolt', 'nut', 'washer')):
        images = scenes(20, seed)
        write(tmp_path / 'data', label, images)
        write(tmp_path / 'data', label, [altered(image, 7) for image in images[::4]], 100)
    return tmp_path / 'data'


def test_three_splits_share_no_item(folder, tmp_path):
    data = prepare(folder, tmp_path / 'out', SIZE, seed=7, show=silent)
    assert data.labels == ('bolt', 'nut', 'washer')
    assert sum(data.counts.values()) == 75
    assert all(min(counts.values()) >= 3 for counts in data.by_class.values())
    stacks = {split: data.load(split) for split in ('train', 'val', 'test')}
    for k in range(3):
        hashes = {
            split: difference_hash(stack.images[stack.classes == k]).astype(int)
            for split, stack in stacks.items()
        }
        for one, other in (('train', 'val'), ('train', 'test'), ('val', 'test')):
            assert ((128 - hashes[one] @ hashes[other].T) / 2 > 10).all()
    assert any(
        note.startswith('15 images were recognised as near-duplicates') for note in data.notes
    )


def test_frames_of_an_item_stand_on_one_side_whatever_their_names(tmp_path):
    for seed, label in enumerate('ab'):
        frames = [
            moved(image, 4 * k, 3 * k, k) for image in scenes(12, 30 + seed) for k in range(4)
        ]
        order = np.random.default_rng(seed).permutation(len(frames))
        write(tmp_path / 'data', label, [frames[k] for k in order])
    data = prepare(tmp_path / 'data', tmp_path / 'out', SIZE, 7, show=silent)
    notes = ' | '.join(data.notes)
    assert '72 images were recognised as near-duplicates' in notes and 'one side' in notes
    parts = {split: data.load(split) for split in ('train', 'val', 'test')}
    for k in range(2):
        prints = {
            split: fingerprints(part.images[part.classes == k]) for split, part in parts.items()
        }
        for one, other in (('train', 'val'), ('train', 'test'), ('val', 'test')):
            assert not len(moved_pairs(prints[one], prints[other]))


def test_the_same_seed_draws_the_same_and_another_another(folder, tmp_path):
    first, again, other = (
        prepare(folder, tmp_path / str(k), SIZE, seed, show=silent)
        for k, seed in enumerate((7, 7, 8))
    )
    assert images_of(first, 'test') == images_of(again, 'test') != images_of(other, 'test')


def test_what_is_prepared_is_not_read_again_and_not_mixed_with_other_images(folder, tmp_path):
    out = tmp_path / 'out'
    prepare(folder, out, SIZE, 7, show=silent)
    stamp = (out / 'train' / '0.npz').stat().st_mtime_ns
    assert prepare(folder, out, SIZE, 7, show=silent).counts == Dataset.read(out).counts
    assert (out / 'train' / '0.npz').stat().st_mtime_ns == stamp
    write(folder, 'bolt', scenes(1, 99), 900)
    with pytest.raises(ConfigError, match='other images'):
        prepare(folder, out, SIZE, 7, show=silent)
    assert (out / 'train' / '0.npz').stat().st_mtime_ns == stamp


def test_the_folders_own_validation_images_are_only_tested_on(folder, tmp_path):
    source = tmp_path / 'split'
    folder.rename(source / 'train') if source.mkdir() is None else None
    for seed, label in enumerate(('bolt', 'nut', 'washer')):
        write(source / 'val', label, scenes(4, seed + 50))
    data = prepare(source, tmp_path / 'out', SIZE, 7, show=silent)
    assert data.counts['test'] == 12 and data.counts['train'] + data.counts['val'] == 75
    assert any('test images here' in note for note in data.notes)
    assert not any('look much like' in note for note in data.notes)


def test_a_split_of_the_folder_that_leaks_is_said(folder, tmp_path):
    source = tmp_path / 'split'
    source.mkdir()
    folder.rename(source / 'train')
    for seed, label in enumerate(('bolt', 'nut', 'washer')):
        write(source / 'test', label, [altered(image, 3) for image in scenes(20, seed)[:2]])
    data = prepare(source, tmp_path / 'out', SIZE, 7, show=silent)
    assert any(note.startswith('6 of 6 test images look much like') for note in data.notes)


def test_broken_files_duplicates_and_conflicts_are_left_out_and_said(folder, tmp_path):
    (folder / 'nut' / 'broken.jpg').write_bytes(b'no image')
    image = scenes(1, 77)[0]
    write(folder, 'bolt', [image, image], 500)
    write(folder, 'nut', [image], 500)
    write(folder, 'washer', scenes(3, 2)[2:], 500)
    said = []
    data = prepare(folder, tmp_path / 'out', SIZE, 7, show=said.append)
    assert any('broken.jpg' in line for line in said)
    notes = ' | '.join(data.notes)
    assert '1 .jpg (cannot be read' in notes and 'broken.jpg' in notes
    assert '2 .png (exact duplicates' in notes and '2 .png (lie under two labels' in notes
    assert sum(data.counts.values()) == 75
    assert image.tobytes() not in images_of(data, 'train') | images_of(data, 'test')


def test_a_class_with_three_pictures_is_named(folder, tmp_path):
    write(folder, 'gear', scenes(3, 60))
    with pytest.raises(ConfigError, match="'gear' has 3"):
        prepare(folder, tmp_path / 'out', SIZE, 7, show=silent)


def test_five_pictures_of_each_class_are_enough_to_go_on(tmp_path):
    for seed, label in enumerate('ab'):
        write(tmp_path / 'data', label, scenes(5, seed))
    data = prepare(tmp_path / 'data', tmp_path / 'out', SIZE, 7, show=silent)
    assert data.counts == {'train': 6, 'val': 2, 'test': 2}


def test_items_on_a_belt_that_all_look_alike_are_cut_in_their_order(tmp_path):
    images, _ = tiny_images(40, 2, SIZE)
    base = images[0].astype(int)
    for label in 'ab':
        write(
            tmp_path / 'data',
            label,
            [
                np.clip(base + k % 3, 0, 255).astype(np.uint8) if k > 2 else altered(base, k)
                for k in range(3)
            ]
            + [altered(base, k + ord(label) * 100) for k in range(17)],
        )
    data = prepare(tmp_path / 'data', tmp_path / 'out', SIZE, 7, show=silent)
    assert all(data.by_class[label]['test'] == 3 for label in 'ab')
    notes = ' | '.join(data.notes)
    assert 'of a, b look alike' in notes and 'both sides of the split' in notes
    assert 'kept on one side' not in notes


def test_items_that_differ_in_their_place_alone_are_dealt_and_said(tmp_path):
    rng = np.random.default_rng(4)
    for seed, label in enumerate('ab'):
        item = scenes(1, 70 + seed)[0]
        write(
            tmp_path / 'data',
            label,
            [moved(item, *rng.integers(-11, 12, 2).tolist(), k) for k in range(40)],
            name='{:03d}.png',
        )
    data = prepare(tmp_path / 'data', tmp_path / 'out', SIZE, 7, show=silent)
    notes = ' | '.join(data.notes)
    assert 'pictures of a, b look alike but for where the item lies' in notes
    assert all(data.by_class[label]['test'] >= 6 for label in 'ab')


def test_a_folder_that_holds_nothing_prepared_is_named(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        Dataset.read(tmp_path)
