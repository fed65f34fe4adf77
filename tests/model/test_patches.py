"""Typical patches: what the layer makes of an image, and what is typical."""

import keras
import numpy as np
import pytest

from ae_search.data import ArraySource
from ae_search.data.pipeline import readable_images
from ae_search.export import export_encoder
from ae_search.model import build_encoder
from ae_search.model.gradients import COMPONENTS, PATCHES, groups
from ae_search.model.patches import ADDED_VARIANCE, THRESHOLD, PatchKinds
from ae_search.model_server import LocalEncoder
from ae_search.training.starting import start_from_components
from ae_search.training.typical_patches import learn_patches


def stripes(count, side_px=12):
    """Return images with upright stripes, and as many with level ones, `[count, side, side, 1]`."""
    random = np.random.default_rng(0)
    phases = random.uniform(0, 6, (count, 1, 1))
    values = np.sin(np.arange(side_px) * 1.0 + phases) * 100 + 128
    upright = np.repeat(values, side_px, axis=1)[..., None]
    upright[::2] = upright[::2].swapaxes(1, 2)
    return np.clip(upright + random.normal(0, 3, upright.shape), 0, 255).astype(np.uint8)


def learned(pixels, kinds):
    source = ArraySource("stripes", pixels, [None] * len(pixels))
    layer = PatchKinds(kinds=kinds)
    layer.build((None, *pixels.shape[1:]))
    learn_patches(layer, readable_images(source, pixels.shape[1:]), np.arange(len(pixels)), seed=0)
    return layer


@pytest.fixture(scope="module")
def layer():
    return learned(stripes(200), 5)


def by_hand(images, kernel, bias):
    """Return the similarities of each patch, `[n, h - 5, w - 5, kinds]`, patch by patch."""
    side = images.shape[1] - 5
    found = np.zeros((len(images), side, side, len(bias)))
    for row in range(side):
        for column in range(side):
            patch = images[:, row : row + 6, column : column + 6, 0].reshape(len(images), -1).astype(np.float64)
            deviation = np.sqrt(patch.var(axis=1, keepdims=True) + ADDED_VARIANCE)
            patch = (patch - patch.mean(axis=1, keepdims=True)) / deviation
            found[:, row, column] = np.maximum(patch @ kernel.reshape(36, -1) + bias - THRESHOLD, 0)
    return found


def test_patches_are_compared_as_by_hand(layer):
    images = stripes(6) / np.float32(255)
    alike = by_hand(images, *layer.get_weights())
    size = 7 / 4
    centres = (np.arange(4) + 0.5) * size - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(7) - centres[:, None]) / size)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.sqrt(np.einsum("ah,nhwk,bw->nkab", weights, alike, weights)).reshape(6, -1)
    assert expected.max() > 0.5
    np.testing.assert_allclose(layer(images), expected, atol=2e-3)


def test_neither_brightness_nor_contrast_counts(layer):
    images = stripes(6) / np.float32(255)
    np.testing.assert_allclose(layer(images * 0.5 + 0.2), layer(images), atol=0.05)


def test_what_is_typical_tells_upright_from_level_stripes(layer):
    found = np.asarray(layer(stripes(40) / np.float32(255))).reshape(40, 5, 16).mean(axis=2)
    level, upright = found[::2].mean(axis=0), found[1::2].mean(axis=0)
    assert np.maximum(level, upright).max() > 3 * np.minimum(level, upright)[np.abs(level - upright).argmax()]


@pytest.mark.parametrize("pixels", [np.zeros((3, 8, 8, 1), np.uint8), stripes(2, 8)], ids=["even", "few"])
def test_images_that_say_little_give_finite_patches(pixels):
    assert np.isfinite(learned(pixels, 3)(pixels / np.float32(255))).all()


def test_large_images_are_looked_at_small():
    layer = learned(stripes(20, 40), 3)
    assert layer(stripes(2, 40) / np.float32(255)).shape == (2, 48)


def test_an_encoder_begins_with_components_of_patches_too(tmp_path):
    pixels = stripes(60)
    encoder = build_encoder((12, 12, 1), latent_dim=16, patches=5)
    images = readable_images(ArraySource("stripes", pixels, [None] * 60), (12, 12, 1))
    start_from_components(encoder, images, np.arange(60), seed=0)
    assert list(groups(encoder)) == ["gradients", "cells", PATCHES]
    components = keras.Model(encoder.input, encoder.get_layer(COMPONENTS).output)
    found = np.asarray(components(pixels / np.float32(255)))
    covariance = np.cov(found.T, bias=True)
    # The latents are the first of them, also where images span fewer than the layer has.
    kernel = encoder.get_layer("latents").get_weights()[0]
    np.testing.assert_array_equal(kernel[-found.shape[1] :], np.eye(found.shape[1], 16))
    # Nothing beyond what sixty images span.
    np.testing.assert_allclose(covariance[60:], 0, atol=1e-4)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-2 * covariance[0, 0])
    encoder.save(tmp_path / "encoder.keras")
    again = keras.models.load_model(tmp_path / "encoder.keras")
    latents = np.asarray(encoder(pixels / np.float32(255)))
    np.testing.assert_allclose(again(pixels / np.float32(255)), latents, atol=1e-4)
    served = LocalEncoder(export_encoder(encoder, tmp_path / "export"))
    np.testing.assert_allclose(served.encode(pixels), latents, atol=1e-3)
