"""The views of a query, against a slow oracle and against what anyone can see."""

import math

import numpy as np
import pytest
from pictures import coloured_picture

from ae_search.views import MOVES, SHIFTS, TURNS_DEGREES, VIEWS, ZOOMS, _moved, query_views

SHAPES = [(28, 28, 1), (20, 31, 3), (8, 8, 1), (2, 2, 1), (1, 1, 3), (1, 7, 1)]


def noise(shape=(28, 28, 1), seed=0):
    return np.random.default_rng(seed).integers(1, 256, shape, np.uint8)


def smooth(size=(50, 100)):
    return np.asarray(coloured_picture(4, size[::-1]))


def slowly_moved(pixels, turn, zoom, across, down):
    """Each pixel from where it was: around the centre, between the four pixels there, black beyond the edges."""
    height, width, channels = pixels.shape
    moved = np.zeros(pixels.shape)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    for row in range(height):
        for column in range(width):
            right = (column + 0.5 - width / 2 - across * width) / zoom
            lower = (row + 0.5 - height / 2 - down * height) / zoom
            x, y = cos * right - sin * lower + width / 2, sin * right + cos * lower + height / 2
            if not (0 <= x < width and 0 <= y < height):
                continue
            left, top = math.floor(x - 0.5), math.floor(y - 0.5)
            for at_x, share_x in ((left, left + 1.5 - x), (left + 1, x - left - 0.5)):
                for at_y, share_y in ((top, top + 1.5 - y), (top + 1, y - top - 0.5)):
                    near = pixels[min(max(at_y, 0), height - 1), min(max(at_x, 0), width - 1)]
                    moved[row, column] += share_x * share_y * near
    return moved


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_view_is_what_a_slow_oracle_makes(shape):
    pixels = noise(shape)
    before = pixels.copy()
    views = query_views(pixels)
    assert views.shape == (VIEWS, *shape) == (34, *shape)
    assert views.dtype == np.uint8
    assert np.array_equal(pixels, before)
    for view, move in zip(views[::2], MOVES, strict=True):
        wrong = np.abs(view - slowly_moved(pixels, *move))
        # A pixel whose origin is on the very edge may be inside for one and outside for the other.
        assert (wrong > 1.001).sum() <= 2 * shape[2], move


def test_all_moves_are_there_once_and_the_image_itself_is_first():
    expected = {(turn, zoom, 0.0, 0.0) for turn in TURNS_DEGREES for zoom in ZOOMS}
    expected |= {(0.0, 1.0, across, down) for across in SHIFTS for down in SHIFTS}
    assert len(MOVES) == 17
    assert set(MOVES) == expected
    pixels = noise()
    assert np.array_equal(query_views(pixels)[0], pixels)
    assert len({view.tobytes() for view in query_views(pixels)}) == 34


def test_every_second_view_is_the_mirror_image_of_the_one_before():
    pixels = noise((20, 31, 3))
    views = query_views(pixels)
    assert np.array_equal(views[1], pixels[:, ::-1])
    assert np.array_equal(views[1::2], views[::2, :, ::-1])


def test_the_views_of_the_mirror_image_are_the_same_views():
    pixels = smooth((50, 90))
    views, mirrored = (query_views(image).astype(int) for image in (pixels, pixels[:, ::-1]))
    for view in mirrored:
        assert min(np.mean(np.abs(view - one)) for one in views) < 0.3


def test_a_shift_of_whole_pixels_moves_them_and_lets_black_in():
    pixels = noise((50, 100, 3))
    for across in SHIFTS:
        for down in SHIFTS:
            view = query_views(pixels)[2 * MOVES.index((0.0, 1.0, across, down))]
            columns, rows = round(across * 100), round(down * 50)  # 6 and 3
            expected = np.zeros_like(pixels)
            expected[max(0, rows) : 50 + min(0, rows), max(0, columns) : 100 + min(0, columns)] = pixels[
                max(0, -rows) : 50 + min(0, -rows), max(0, -columns) : 100 + min(0, -columns)
            ]
            assert np.array_equal(view, expected)


def test_a_line_is_turned_anticlockwise_by_eight_degrees():
    line = np.zeros((101, 101, 1), np.uint8)
    line[:, 49:52] = 255
    turned = query_views(line)[2 * MOVES.index((8.0, 1.0, 0.0, 0.0)), ..., 0].astype(float)
    columns = [(turned[row] * np.arange(101)).sum() / turned[row].sum() for row in (20, 80)]
    # Anticlockwise: the top of an upright line goes left.
    assert np.degrees(np.arctan((columns[1] - columns[0]) / 60)) == pytest.approx(8, abs=0.3)


def test_a_ramp_is_flattened_by_zooming_in_and_steepened_by_zooming_out():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[np.newaxis, :, np.newaxis], (200, 200, 1))
    for zoom in (0.87, 1.15):
        row = query_views(ramp)[2 * MOVES.index((0.0, zoom, 0.0, 0.0)), 100, :, 0].astype(float)
        assert (row[150] - row[50]) / 100 == pytest.approx(1 / zoom, abs=0.02)
        assert row[99:101].mean() == pytest.approx(99.5, abs=1)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ((8.0, 1.0, 0.0, 0.0), (-8.0, 1.0, 0.0, 0.0)),
        ((0.0, 1.15, 0.0, 0.0), (0.0, 1 / 1.15, 0.0, 0.0)),
        ((8.0, 0.87, 0.0, 0.0), (-8.0, 1 / 0.87, 0.0, 0.0)),
        ((0.0, 1.0, 0.06, -0.06), (0.0, 1.0, -0.06, 0.06)),
    ],
)
def test_there_and_back_again(there, back):
    pixels = smooth((60, 80))
    again = _moved(_moved(pixels, there), back).astype(int)
    middle = (slice(15, 45), slice(20, 60))
    assert np.abs(again - pixels)[middle].mean() < 1.5
    once = np.abs(_moved(pixels, there).astype(int) - pixels)[middle].mean()
    assert once > 4.0


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 1), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 1), np.uint8),
    ],
    ids=["no channels", "floats", "four channels", "empty"],
)
def test_what_is_no_image_is_the_programmers_mistake(wrong):
    with pytest.raises(ValueError, match=r"Expected uint8 pixels \[h, w, 1 or 3\]. Received: dtype="):
        query_views(wrong)
