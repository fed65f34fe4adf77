"""Random alterations of batches."""

import numpy as np
import pytest
import tensorflow as tf

from ae_search.data.random_alterations import moved, spoiled


@pytest.fixture
def images():
    tf.random.set_seed(3)
    return np.random.default_rng(0).random((64, 20, 31, 3), np.float32)


def test_without_strength_images_stay_or_are_mirrored(images):
    found = moved(images, 0.0).numpy()
    same = [np.allclose(a, b, atol=1e-5) for a, b in zip(found, images, strict=True)]
    mirrored = [np.allclose(a, b[:, ::-1], atol=1e-5) for a, b in zip(found, images, strict=True)]
    assert all(one or other for one, other in zip(same, mirrored, strict=True))
    assert 10 < sum(same) < 54


def test_moving_keeps_a_dot_within_its_bounds():
    tf.random.set_seed(4)
    dots = np.zeros((200, 41, 41, 1), np.float32)
    dots[:, 20, 20] = 1.0
    found = moved(dots, 1.0).numpy()[..., 0]
    rows = np.arange(41)
    weight = found.sum(axis=(1, 2))
    centre = (found.sum(axis=2) @ rows / weight, found.sum(axis=1) @ rows / weight)
    # 9 % of 41 px, and what zooming to 85 % and stretching add to a shift.
    assert all(2.0 < np.abs(at - 20).max() < 0.09 * 41 * 1.35 for at in centre)


def test_spoiled_images_differ_and_stay_images(images):
    found = spoiled(images).numpy()
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert all((a != b).any() for a, b in zip(found, images, strict=True))
    assert spoiled(images).numpy().tolist() != found.tolist()
