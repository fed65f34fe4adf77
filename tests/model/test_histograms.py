"""Histograms of gradients and colours against slow ones in NumPy."""

import keras
import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from ae_search.data.decode import decode_image
from ae_search.model.histograms import (
    COLOUR_FLOATS,
    GRADIENT_FLOATS,
    LEAST_SLOPE,
    CellMeans,
    ColourHistogram,
    OrientedGradients,
    cell_means,
    colour_histogram,
    oriented_gradients,
)


def slow_gradients(image):
    """Vote pixel by pixel."""
    height, width, _ = image.shape
    padded = np.pad(image.astype(np.float64).mean(axis=2), 1, "edge")
    votes = np.zeros((8, 7, 7))
    for row in range(height):
        for column in range(width):
            across = padded[row + 1, column + 2] - padded[row + 1, column]
            down = padded[row + 2, column + 1] - padded[row, column + 1]
            steepness, turn = np.hypot(across, down), np.arctan2(down, across) / (2 * np.pi) * 8 % 8
            for orientation in (int(turn) % 8, (int(turn) + 1) % 8):
                apart = abs(turn - orientation)
                weight = max(0.0, 1 - min(apart, 8 - apart))
                for i in range(7):
                    for j in range(7):
                        near = [
                            max(0.0, 1 - abs(at - ((cell + 0.5) * side / 7 - 0.5)) / (side / 7))
                            for at, cell, side in ((row, i, height), (column, j, width))
                        ]
                        votes[orientation, i, j] += steepness * weight * near[0] * near[1]
    flat = votes.reshape(-1)
    return np.sqrt(flat / (np.sqrt((flat**2).mean()) + LEAST_SLOPE * height * width / 49))


@pytest.mark.parametrize("shape", [(14, 14, 1), (9, 21, 3)])
def test_gradients_are_those_counted_pixel_by_pixel(shape):
    images = np.random.default_rng(1).random((2, *shape), np.float32)
    ours = oriented_gradients(images).numpy()
    assert ours.shape == (2, GRADIENT_FLOATS)
    np.testing.assert_allclose(ours, [slow_gradients(image) for image in images], atol=2e-4)


def test_gradients_know_neither_brightness_nor_an_even_picture():
    image = np.random.default_rng(2).random((1, 28, 28, 1), np.float32)
    np.testing.assert_allclose(oriented_gradients(0.5 * image), oriented_gradients(image), rtol=0.01)
    assert not oriented_gradients(np.full((1, 28, 28, 1), 0.5, np.float32)).numpy().any()


def test_an_edge_votes_for_its_direction_only():
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[:, :, 14:] = 1.0
    by_orientation = oriented_gradients(image).numpy().reshape(8, -1).any(axis=1)
    assert by_orientation.tolist() == [True] + [False] * 7


def test_colours_are_shares_of_the_pixels():
    image = np.zeros((1, 4, 4, 3), np.float32)
    image[0, 0, 0] = (1.0, 0.0, 0.0)
    image[0, 0, 1] = (0.0, 0.0, 1 / 6)  # half way between two levels
    found = colour_histogram(image).numpy().reshape(4, 4, 4) ** 2 / COLOUR_FLOATS * 16
    assert found.sum() == pytest.approx(16)
    assert (found[3, 0, 0], found[0, 0, 1], found[0, 0, 0]) == pytest.approx((1.0, 0.5, 14.5))


def test_cell_means_are_weighted_means_of_the_pixels():
    images = np.random.default_rng(3).random((2, 14, 21, 3), np.float32)
    found = cell_means(images).numpy().reshape(2, 3, 7, 7)
    # Cells of 2 x 3 px: two rows count by 3/4 and their neighbours by 1/4, three columns by 1, 2/3 and 1/3 around.
    rows = np.array([1 / 4, 3 / 4, 3 / 4, 1 / 4])
    columns = np.array([1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3])
    part = images[1, 3:7, 8:13, 2]
    weights = rows[:, None] * columns
    assert found[1, 2, 2, 3] == pytest.approx((part * weights).sum() / weights.sum(), rel=1e-5)
    even = cell_means(np.full((1, 30, 17, 1), 0.3, np.float32)).numpy()
    np.testing.assert_allclose(even, np.full((1, 49), 0.3), rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (64, 64, 3)])
def test_batches_of_every_size_are_measured(count, shape):
    """TensorFlow's product of batches ended the whole process for 300 grey images."""
    images = np.full((count, *shape), 0.5, np.float32)
    assert cell_means(images).shape == (count, 49 * shape[2])
    assert oriented_gradients(images).shape == (count, GRADIENT_FLOATS)


def test_the_layers_survive_saving(tmp_path):
    image = keras.Input((12, 12, 3))
    layers = [OrientedGradients(), ColourHistogram(), CellMeans()]
    model = keras.Model(image, keras.layers.Concatenate()([layer(image) for layer in layers]))
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((3, 12, 12, 3), np.float32)
    again = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert again.output_shape == (None, GRADIENT_FLOATS + COLOUR_FLOATS + 147)
    np.testing.assert_array_equal(again(images), model(images))


def test_an_even_picture_has_no_gradients_even_after_resizing():
    """What rounding leaves must not be blown up to the size of a picture's gradients."""
    even = decode_image(encoded(Image.new("RGB", (300, 200), (128, 130, 90)), "PNG"), (64, 64, 3))[None]
    assert np.abs(oriented_gradients(even)).max() < 0.1
