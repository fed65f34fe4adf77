"""What each alteration does to pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from ae_search.evaluation.measures.copy_alterations import ALTERATION_SETS, ALTERATIONS, EVERYDAY, HARD, altered

SHAPES = [(28, 28, 1), (64, 48, 3), (8, 8, 1), (2, 2, 1), (1, 1, 3)]


def images(shape=(28, 28, 1), count=3, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (count, *shape), np.uint8)


def test_there_are_nine_everyday_ones_and_eleven_harder_ones():
    assert (len(EVERYDAY), len(HARD)) == (9, 11)
    assert list(ALTERATIONS) == [*EVERYDAY, *HARD]
    assert ALTERATION_SETS == {"everyday": EVERYDAY, "hard": HARD, "all": ALTERATIONS}


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
    originals = images((48, 64, 3), count=5)
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


def ramp(height=200, width=200):
    """Brighter by 1 a px to the right, from 0 on."""
    return np.tile(np.arange(width, dtype=np.uint8)[:, np.newaxis], (1, height, 1, 1))


@pytest.mark.parametrize(("name", "share"), [("half cut out", 0.5), ("0.7 cut out", 0.7)])
def test_a_part_is_a_share_of_each_side_anywhere(name, share):
    slopes, firsts = [], set()
    for after in altered(np.repeat(ramp(), 20, axis=0), name, seed=0).astype(float):
        row = after[100, :, 0]
        slopes.append((row[150] - row[50]) / 100)
        firsts.add(round(row[0]))
        assert row[0] >= 0
        assert row[-1] <= 199
    assert np.mean(slopes) == pytest.approx(share, abs=0.02)
    assert max(firsts) > 200 * (1 - share) - 20
    assert min(firsts) < 20


def test_a_border_is_white_and_all_of_the_image_is_inside():
    black = np.zeros((1, 130, 130, 3), np.uint8)
    cropped, padded = (altered(black, "white border", seed=0, fit=fit)[0, ..., 0] for fit in ("crop", "pad"))
    # 195 x 169 px, of which a model that crops sees the middle 169 x 169.
    assert (cropped < 128).any(axis=0).sum() == pytest.approx(130 * 130 / 169, abs=1)
    assert (cropped < 128).any(axis=1).sum() == pytest.approx(130 * 130 / 169, abs=1)
    assert (padded < 128).any(axis=0).sum() == pytest.approx(130 * 130 / 195, abs=1)
    assert cropped[0].min() == padded[:, 0].min() == 255


def test_text_is_red_and_covers_less_than_a_quarter():
    grey = np.full((6, 96, 128, 3), 100, np.uint8)
    places = set()
    for before, after in zip(grey, altered(grey, "red text", seed=0), strict=True):
        changed = (before != after).any(axis=2)
        assert 0.01 < changed.mean() < 0.25
        assert (after[changed][:, 0] >= 100).all()
        assert (after[changed][:, 1:] <= 100).all()
        assert after[..., 0].max() > 250
        places.add(int(changed.any(axis=0).argmax()))
    assert len(places) > 1


def test_grey_has_the_brightness_and_no_colours():
    colours = np.zeros((1, 4, 4, 3), np.uint8)
    colours[..., 0] = 200
    assert (altered(colours, "grey", seed=0) == round(0.299 * 200)).all()
    assert np.array_equal(altered(images(), "grey", seed=0), images())


def test_a_quarter_turn_is_anticlockwise_and_brought_back_to_the_shape():
    square = images((40, 40, 3))
    turned = altered(square, "quarter turn", seed=0)
    assert np.array_equal(turned, np.stack([np.rot90(image) for image in square]))
    wide = ramp(100, 200)
    # What was at the right is above; of the 200 px, a model that crops sees the middle 50.
    cropped = altered(wide, "quarter turn", seed=0)[0, :, 100, 0].astype(float)
    assert cropped[0] == pytest.approx(125, abs=2)
    assert cropped[-1] == pytest.approx(75, abs=2)


def test_saturation_doubles_what_is_beyond_grey():
    pixels = np.tile(np.array([120, 100, 90], np.uint8), (1, 4, 4, 1))
    luma = 0.299 * 120 + 0.587 * 100 + 0.114 * 90
    expected = luma + 2 * (np.array([120, 100, 90]) - luma)
    assert np.abs(altered(pixels, "saturation", seed=0)[0, 0, 0] - expected).max() <= 2
    assert np.array_equal(altered(images(), "saturation", seed=0), images())


def test_contrast_is_1_6_times_as_large_around_the_mean():
    halves = np.full((1, 10, 10, 1), 80, np.uint8)
    halves[:, 5:] = 120
    after = altered(halves, "contrast", seed=0)[0, ..., 0]
    assert set(after.ravel().tolist()) == {100 - 32, 100 + 32}


def test_a_thumbnail_has_64_px_a_side():
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 200).astype(np.uint8)[np.newaxis, ..., np.newaxis]
    assert np.abs(altered(board, "64 x 64 px", seed=0).astype(int) - 100).max() <= 3
    stripes = np.repeat(np.arange(64) % 2 * 200, 4).astype(np.uint8)
    coarse = altered(np.tile(stripes[:, np.newaxis], (1, 256, 1, 1)), "64 x 64 px", seed=0)[0, 100, :, 0]
    assert coarse.max() > 150 > 50 > coarse.min()


def test_a_squeezed_image_loses_its_sides_where_a_model_crops():
    wide = altered(ramp(), "height x 0.75", seed=0)[0, 100, :, 0].astype(float)
    assert wide[0] == pytest.approx(25, abs=2)
    assert wide[-1] == pytest.approx(174, abs=2)
    upright = altered(ramp().swapaxes(1, 2), "height x 0.75", seed=0, fit="pad")[0, :, 100, 0].astype(float)
    assert (upright[150] - upright[50]) / 100 == pytest.approx(1 / 0.75, abs=0.03)


def test_a_jpeg_of_quality_8_is_one():
    original = images((32, 32, 3), 1)
    file = io.BytesIO()
    Image.fromarray(original[0]).save(file, "JPEG", quality=8)
    assert np.array_equal(altered(original, "jpeg of quality 8", seed=0)[0], np.asarray(Image.open(file)))
