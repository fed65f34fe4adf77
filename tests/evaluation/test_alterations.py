"""What each alteration does to pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from ae_search.evaluation.measures.copy_alterations import ALTERATIONS, altered

SHAPES = [(28, 28, 1), (64, 48, 3), (8, 8, 1), (2, 2, 1), (1, 1, 3)]


def images(shape=(28, 28, 1), count=3, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (count, *shape), np.uint8)


def test_there_are_nine():
    assert len(ALTERATIONS) == 9


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ALTERATIONS)
def test_shape_type_and_originals_stay_and_the_seed_decides(name, shape):
    originals = images(shape)
    before = originals.copy()
    once = altered(originals, name, seed=5)
    assert once.shape == originals.shape
    assert once.dtype == np.uint8
    assert np.array_equal(originals, before)
    assert np.array_equal(once, altered(originals, name, seed=5))


@pytest.mark.parametrize("name", ALTERATIONS)
def test_images_are_altered_by_their_number_wherever_blocks_begin(name):
    originals = images(count=5)
    whole = altered(originals, name, seed=1)
    assert not np.array_equal(whole, originals)
    assert np.array_equal(whole[3:], altered(originals[3:], name, seed=1, first=3))


def test_chance_differs_by_seed_and_by_image():
    same = np.repeat(images(count=1), 2, axis=0)
    for name in ("noise", "hole"):
        one, other = altered(same, name, seed=1)
        assert not np.array_equal(one, other)
        assert not np.array_equal(one, altered(same[:1], name, seed=2)[0])


def test_shift_moves_two_of_28_px_each_way_and_lets_black_in():
    originals = images(count=40)
    seen = set()
    for before, after in zip(originals, altered(originals, "shift", seed=0), strict=True):
        down, right = (2 if (after[:2] == 0).all() else -2), (2 if (after[:, :2] == 0).all() else -2)
        seen.add((down, right))
        back = np.roll(after, (-down, -right), axis=(0, 1))
        rows = slice(0, 26) if down > 0 else slice(2, 28)
        columns = slice(0, 26) if right > 0 else slice(2, 28)
        assert np.array_equal(back[rows, columns], before[rows, columns])
        assert (after == 0).sum() == 28 * 28 - 26 * 26
    assert seen == {(2, 2), (2, -2), (-2, 2), (-2, -2)}


def test_hole_is_a_quarter_of_each_side():
    for shape, rows, columns in [((28, 28, 1), 7, 7), ((64, 48, 3), 16, 12)]:
        for before, after in zip(images(shape, 9), altered(images(shape, 9), "hole", seed=0), strict=True):
            black = (after == 0).all(axis=2)
            assert black.sum() == rows * columns
            assert black.any(axis=1).sum() == rows
            assert black.any(axis=0).sum() == columns
            assert np.array_equal(after[~black], before[~black])


def test_mirror_darkening_and_noise_by_hand():
    originals = images((40, 30, 3), 4)
    assert np.array_equal(altered(originals, "mirror", seed=0), originals[:, :, ::-1])
    assert np.array_equal(altered(originals, "darkening", seed=0), np.floor(originals * 0.7 + 0.5))
    grey = np.full((1, 100, 100, 1), 128, np.uint8)
    noisy = altered(grey, "noise", seed=0).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=1)
    assert noisy.std() == pytest.approx(20, abs=1)


def test_crop_keeps_the_middle_85_percent():
    # A ramp from left to right stays one, with 85 % of its slope.
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[np.newaxis, :, np.newaxis], (1, 200, 200, 1))
    cropped = altered(np.ascontiguousarray(ramp), "crop", seed=0)[0, 100, :, 0].astype(float)
    assert (cropped[150] - cropped[50]) / 100 == pytest.approx(0.85, abs=0.02)
    assert cropped[99:101].mean() == pytest.approx(99.5, abs=1)


def test_rotation_is_by_ten_degrees():
    line = np.zeros((1, 101, 101, 1), np.uint8)
    line[0, :, 49:52] = 255
    turned = altered(line, "rotation", seed=0)[0, ..., 0].astype(float)
    columns = [(turned[row] * np.arange(101)).sum() / turned[row].sum() for row in (20, 80)]
    # Anticlockwise: the top of an upright line goes left.
    assert np.degrees(np.arctan((columns[1] - columns[0]) / 60)) == pytest.approx(10, abs=0.5)


def test_half_resolution_averages_blocks():
    board = np.indices((16, 16)).sum(axis=0)[np.newaxis, ..., np.newaxis] % 2 * 200
    halved = altered(board.astype(np.uint8), "half resolution", seed=0)
    assert (halved == 100).all()


def test_jpeg_is_a_jpeg_of_quality_30():
    original = images((32, 32, 3), 1)
    file = io.BytesIO()
    Image.fromarray(original[0]).save(file, "JPEG", quality=30)
    assert np.array_equal(altered(original, "jpeg", seed=0)[0], np.asarray(Image.open(file)))
