"""The views of a query, against a slow oracle and against what anyone can see."""

import math

import numpy as np
import pytest
from pictures import coloured_picture
from PIL import Image

from ae_search.views import (
    MOST_VIEWS,
    MOVES,
    PLAIN_VIEWS,
    SHIFTS,
    TURNS_DEGREES,
    ZOOMS,
    _moved,
    query_views,
    within_border,
)

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
            right = (column + 0.5 - width / 2 - round(across * width)) / zoom
            lower = (row + 0.5 - height / 2 - round(down * height)) / zoom
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
    assert views.shape[1:] == shape
    assert len(views) in (PLAIN_VIEWS, MOST_VIEWS)
    assert (PLAIN_VIEWS, MOST_VIEWS) == (32, 34)
    assert views.dtype == np.uint8
    assert np.array_equal(pixels, before)
    for view, move in zip(views[::2], MOVES, strict=False):
        wrong = np.abs(view - slowly_moved(pixels, *move))
        # A pixel whose origin is on the very edge may be inside for one and outside for the other.
        assert (wrong > 1.001).sum() <= 2 * shape[2], move


def test_all_moves_are_there_once_and_the_image_itself_is_first():
    expected = {(turn, 1.0, 0.0, 0.0) for turn in TURNS_DEGREES} | {(0.0, zoom, 0.0, 0.0) for zoom in ZOOMS}
    expected |= {(0.0, 1.0, across, down) for across in SHIFTS for down in SHIFTS}
    assert len(MOVES) == 13
    assert set(MOVES) == expected
    pixels = noise()
    assert np.array_equal(query_views(pixels)[0], pixels)
    assert len({view.tobytes() for view in query_views(pixels)}) == 32


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


@pytest.mark.parametrize(("shape", "most"), [((50, 100, 3), (3, 6)), ((28, 28, 1), (2, 2)), ((8, 30, 1), (0, 2))])
def test_a_shift_moves_pixels_as_they_are_and_lets_black_in(shape, most):
    pixels, (height, width) = noise(shape), shape[:2]
    for across in SHIFTS:
        for down in SHIFTS:
            view = query_views(pixels)[2 * MOVES.index((0.0, 1.0, across, down))]
            rows, columns = int(np.sign(down)) * most[0], int(np.sign(across)) * most[1]
            expected = np.zeros_like(pixels)
            expected[max(0, rows) : height + min(0, rows), max(0, columns) : width + min(0, columns)] = pixels[
                max(0, -rows) : height + min(0, -rows), max(0, -columns) : width + min(0, -columns)
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


def test_all_turns_and_mirror_images_are_views():
    pixels = noise((30, 30, 3))
    views = {view.tobytes() for view in query_views(pixels)}
    for turns in range(4):
        turned = np.rot90(pixels, turns)
        assert turned.tobytes() in views
        assert turned[:, ::-1].tobytes() in views


def test_what_is_turned_is_brought_back_to_the_shape_as_the_model_does():
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, :40] = 200
    turned = {fit: query_views(wide, fit)[2 * len(MOVES)] for fit in ("crop", "pad")}
    # Anticlockwise: what was at the left is below; of 80 px, a model that crops sees the middle 20.
    assert (turned["crop"][:18] == 0).all()
    assert (turned["crop"][22:] == 200).all()
    assert turned["pad"][:18, 35:45].max() == 0
    assert turned["pad"][22:, 35:45].min() == 200
    assert 0 < turned["pad"][0, 0, 0] < 200  # the mean of the edge


def framed_in(colour, above, below, left, right, *, seed=5, side=60):
    inner = np.asarray(coloured_picture(seed, (side, side)))
    sheet = np.empty((side + above + below, side + left + right, 3), np.uint8)
    sheet[:] = colour
    sheet[above : above + side, left : left + side] = inner
    return sheet, inner


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (30, 90, 200)], ids=["white", "black", "blue"])
@pytest.mark.parametrize(
    "bars", [(9, 9, 15, 15), (20, 20, 0, 0), (0, 0, 30, 30), (0, 25, 0, 0), (12, 0, 7, 0)],
    ids=["border", "above and below", "left and right", "below", "two sides"],
)  # fmt: skip
def test_a_border_or_bars_of_one_colour_are_cut_off(colour, bars):
    sheet, inner = framed_in(colour, *bars)
    noisy = np.clip(sheet + np.random.default_rng(0).normal(0, 3, sheet.shape), 0, 255).astype(np.uint8)
    for image in (sheet, noisy):
        assert within_border(image).shape == inner.shape
    assert np.array_equal(within_border(sheet), inner)
    views = query_views(sheet)
    assert len(views) == MOST_VIEWS
    height, width = sheet.shape[:2]
    shown = views[-2].astype(int)
    expected = Image.fromarray(inner)
    crop = min(60, round(60 * height / width)), min(60, round(60 * width / height))
    top, left = (60 - crop[0]) // 2, (60 - crop[1]) // 2
    expected = expected.crop((left, top, left + crop[1], top + crop[0])).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    assert np.abs(shown - np.asarray(expected)).mean() < 3


def test_signs_in_a_bar_do_not_keep_it():
    sheet, inner = framed_in((250, 250, 250), 20, 20, 0, 0, side=120)
    sheet[8:12, 4:9] = 0  # a clock, as in the screenshot of a phone
    assert np.array_equal(within_border(sheet), inner)


@pytest.mark.parametrize("shape", [(1, 1, 3), (20, 9, 1), (40, 40, 3)], ids=str)
def test_what_has_no_border_or_nothing_inside_it_stays_whole(shape):
    for pixels in (noise(shape), np.full(shape, 255, np.uint8)):
        assert within_border(pixels).shape == shape
        assert len(query_views(pixels)) == PLAIN_VIEWS


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
