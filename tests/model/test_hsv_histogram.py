"""Histograms of hue, saturation and value against a slow one that uses the standard library's `colorsys`."""

import colorsys

import keras
import numpy as np
import pytest

from ae_search.model.hsv_histogram import LEAST_CHROMA, HsvHistogram, hsv_floats, hsv_histogram

BINS = {"hues": 16, "saturations": 4, "values": 4}


def near(at, level, *, around=None):
    """Return 1 at the level, falling to 0 at the next one."""
    apart = abs(at - level)
    return max(0.0, 1 - (apart if around is None else min(apart, around - apart)))


def slow_part(image, hues, saturations, values):
    """Vote pixel by pixel."""
    votes = np.zeros((hues, saturations, values))
    for red, green, blue in image.reshape(-1, 3).astype(np.float64):
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        coloured = min(1.0, (max(red, green, blue) - min(red, green, blue)) / LEAST_CHROMA)
        for h in range(hues):
            own = coloured * near(hue * hues, h, around=hues) + (1 - coloured) / hues
            for s in range(saturations):
                for v in range(values):
                    votes[h, s, v] += own * near(saturation * (saturations - 1), s) * near(value * (values - 1), v)
    return np.sqrt(votes.size * votes.reshape(-1) / votes.sum())


def slow(image, centre, bins=BINS):
    return np.concatenate([slow_part(part, **bins) for part in (image, centre)])


def images_of(shape, seed=0):
    return np.random.default_rng(seed).random((2, *shape), np.float32)


@pytest.mark.parametrize("bins", [BINS, {"hues": 5, "saturations": 2, "values": 3}])
def test_votes_are_those_counted_pixel_by_pixel(bins):
    images = images_of((10, 15, 3))
    images[0, :5] *= 0.1
    images[1, 3:6] = images[1, 3:6].mean(axis=-1, keepdims=True) + 0.01 * images[1, 3:6]  # nearly grey
    ours = hsv_histogram(images, **bins).numpy()
    assert ours.shape == (2, hsv_floats(**bins))
    # The centre of 10 x 15 px: without 2 rows and 3 columns at each end.
    np.testing.assert_allclose(ours, [slow(image, image[2:8, 3:12], bins) for image in images], atol=2e-4)


def test_each_part_has_root_mean_square_1():
    found = hsv_histogram(images_of((20, 20, 3))).numpy().reshape(2, 2, -1)
    np.testing.assert_allclose((found**2).mean(axis=2), 1, rtol=1e-5)


def test_hues_go_round_in_a_circle():
    """A red on either side of hue 0 votes for the first hue, and a little for its neighbour on its own side."""
    reds = np.array([(1.0, 0.03, 0.0), (1.0, 0.0, 0.03)], np.float32).reshape(2, 1, 1, 3)
    whole = hsv_histogram(np.tile(reds, (1, 4, 4, 1))).numpy().reshape(2, 2, 16, 16)[:, 0]
    shares = (whole**2).sum(axis=2) / 256
    assert shares[:, 0] == pytest.approx(0.92, abs=1e-4)
    assert [row.nonzero()[0].tolist() for row in shares] == [[0, 1], [0, 15]]


@pytest.mark.parametrize(
    "colour", [(0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.7, 0.7, 0.2), (0.2, 0.6, 0.6)]
)
def test_rounding_decides_nothing(colour):
    """Where channels are equal, a rounding error makes any of them the largest or smallest; votes stay as they are."""
    errors = 1e-6 * np.random.default_rng(1).standard_normal((30, 5, 5, 3))
    images = np.clip(np.array(colour) + errors, 0, 1).astype(np.float32)
    shares = hsv_histogram(images).numpy() ** 2 / 256
    exact = hsv_histogram(np.broadcast_to(np.float32(colour), (1, 5, 5, 3))).numpy() ** 2 / 256
    assert np.abs(shares - exact).max() < 0.04


def test_grey_votes_for_all_hues_alike():
    whole = hsv_histogram(np.full((1, 6, 6, 3), 1.0, np.float32)).numpy().reshape(2, 16, 4, 4)[0]
    np.testing.assert_allclose(whole[:, 0, 3], 4)  # a sixteenth each, times 256, square-rooted
    assert whole[:, 1:].max() == 0
    assert whole[:, :, :3].max() == 0


def test_the_centre_counts_apart():
    image = np.zeros((1, 20, 20, 3), np.float32)
    image[..., 0] = 1.0
    image[:, 4:16, 4:16] = (0.0, 1.0, 0.0)
    whole, centre = hsv_histogram(image).numpy().reshape(2, 16, 16) ** 2 / 256
    assert whole.sum(axis=1)[0] == pytest.approx(1 - 0.36)
    assert centre.sum(axis=1)[0] == 0


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("side", [1, 2, 8, 64])
def test_batches_of_every_size_are_measured(count, side):
    found = hsv_histogram(np.full((count, side, side, 3), 0.5, np.float32)).numpy()
    assert found.shape == (count, 512)
    assert np.isfinite(found).all()


def test_the_layer_survives_saving(tmp_path):
    image = keras.Input((12, 12, 3))
    model = keras.Model(
        image, keras.layers.Concatenate()([HsvHistogram()(image), HsvHistogram(hues=6, values=2)(image)])
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert again.output_shape == (None, 512 + 96)
    images = images_of((12, 12, 3))
    np.testing.assert_array_equal(again(images), model(images))
