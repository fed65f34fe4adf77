"""Histograms of gradients, and coarse pixels, against slow ones in NumPy."""

import keras
import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from ae_search.data.decode import decode_image
from ae_search.model.histograms import (
    GRADIENT_FLOATS,
    LEAST_SLOPE,
    CellMeans,
    OrientedGradients,
    cell_means,
    oriented_gradients,
)


def slow_gradients(image, cells=7, orientations=8, signed=True):
    """Vote pixel by pixel."""
    height, width, _ = image.shape
    padded = np.pad(image.astype(np.float64).mean(axis=2), 1, "edge")
    votes = np.zeros((orientations, cells, cells))
    around = 2 * np.pi if signed else np.pi
    for row in range(height):
        for column in range(width):
            across = padded[row + 1, column + 2] - padded[row + 1, column]
            down = padded[row + 2, column + 1] - padded[row, column + 1]
            steepness, turn = np.hypot(across, down), np.arctan2(down, across) / around * orientations % orientations
            for orientation in (int(turn) % orientations, (int(turn) + 1) % orientations):
                apart = abs(turn - orientation)
                weight = max(0.0, 1 - min(apart, orientations - apart))
                for i in range(cells):
                    for j in range(cells):
                        near = [
                            max(0.0, 1 - abs(at - ((cell + 0.5) * side / cells - 0.5)) / (side / cells))
                            for at, cell, side in ((row, i, height), (column, j, width))
                        ]
                        votes[orientation, i, j] += steepness * weight * near[0] * near[1]
    flat = votes.reshape(-1)
    return np.sqrt(flat / (np.sqrt((flat**2).mean()) + LEAST_SLOPE * height * width / cells**2))


@pytest.mark.parametrize("shape", [(14, 14, 1), (9, 21, 3)])
@pytest.mark.parametrize("kind", [{}, {"cells": 4}, {"orientations": 9, "signed": False}])
def test_gradients_are_those_counted_pixel_by_pixel(shape, kind):
    images = np.random.default_rng(1).random((2, *shape), np.float32)
    ours = oriented_gradients(images, **kind).numpy()
    assert ours.shape[1] == kind.get("cells", 7) ** 2 * kind.get("orientations", 8)
    np.testing.assert_allclose(ours, [slow_gradients(image, **kind) for image in images], atol=2e-4)


def test_unsigned_gradients_do_not_know_which_side_is_brighter():
    image = np.random.default_rng(2).random((1, 28, 28, 1), np.float32)
    ways = [oriented_gradients(one, orientations=9, signed=False) for one in (image, 1 - image)]
    np.testing.assert_allclose(*ways, atol=1e-3)
    assert np.abs(oriented_gradients(image) - oriented_gradients(1 - image)).max() > 0.1


def test_gradients_know_neither_brightness_nor_an_even_picture():
    image = np.random.default_rng(2).random((1, 28, 28, 1), np.float32)
    np.testing.assert_allclose(oriented_gradients(0.5 * image), oriented_gradients(image), rtol=0.01)
    assert not oriented_gradients(np.full((1, 28, 28, 1), 0.5, np.float32)).numpy().any()


def test_an_edge_votes_for_its_direction_only():
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[:, :, 14:] = 1.0
    by_orientation = oriented_gradients(image).numpy().reshape(8, -1).any(axis=1)
    assert by_orientation.tolist() == [True] + [False] * 7


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
    layers = [OrientedGradients(), OrientedGradients(cells=4, orientations=5, signed=False), CellMeans()]
    model = keras.Model(image, keras.layers.Concatenate()([layer(image) for layer in layers]))
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((3, 12, 12, 3), np.float32)
    again = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert again.output_shape == (None, GRADIENT_FLOATS + 80 + 147)
    np.testing.assert_array_equal(again(images), model(images))


def test_an_even_picture_has_no_gradients_even_after_resizing():
    """What rounding leaves must not be blown up to the size of a picture's gradients."""
    even = decode_image(encoded(Image.new("RGB", (300, 200), (128, 130, 90)), "PNG"), (64, 64, 3))[None]
    assert np.abs(oriented_gradients(even)).max() < 0.1
