"""Latents as principal components, before the training and after it."""

import numpy as np
import pytest

from ae_search.data import ArraySource
from ae_search.data.pipeline import readable_images
from ae_search.model import build_autoencoder, build_decoder, build_encoder
from ae_search.model.gradients import HIDDEN_UNITS
from ae_search.model.histograms import cell_means, colour_histogram, oriented_gradients
from ae_search.principal import fit_components
from ae_search.training import TrainingOptions, configure
from ae_search.training.scaling import scale_latents
from ae_search.training.starting import start_from_components


@pytest.mark.parametrize("architecture", ["gradients", "conv"])
def test_scaling_changes_the_latents_and_not_the_reconstruction(architecture):
    shape = (12, 12, 1)
    encoder = build_encoder(shape, architecture=architecture, latent_dim=6)
    autoencoder = build_autoencoder(encoder, build_decoder(shape, architecture=architecture, latent_dim=6))
    images = np.random.default_rng(0).random((500, *shape), np.float32)
    latents, logits = np.asarray(encoder(images)), np.asarray(autoencoder(images))
    scale_latents(autoencoder, latents)
    after = np.asarray(encoder(images), np.float64)
    np.testing.assert_allclose(autoencoder(images), logits, atol=1e-3)
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)
    # The covariance is diagonal, and its entries are the square roots of the eigenvalues before.
    values = np.sort(np.linalg.eigvalsh(np.cov(latents.T, bias=True)))[::-1]
    np.testing.assert_allclose(np.cov(after.T, bias=True), np.diag(np.sqrt(values)), atol=1e-3 * np.sqrt(values[0]))


def test_one_float_can_be_scaled():
    encoder = build_encoder((8, 8, 1), latent_dim=1)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=1))
    images = np.random.default_rng(0).random((50, 8, 8, 1), np.float32)
    logits = np.asarray(autoencoder(images))
    scale_latents(autoencoder, np.asarray(encoder(images)))
    np.testing.assert_allclose(autoencoder(images), logits, atol=1e-3)


def test_equal_images_are_only_centred():
    encoder = build_encoder((8, 8, 1), latent_dim=3)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=3))
    images = np.zeros((5, 8, 8, 1), np.float32)
    scale_latents(autoencoder, np.asarray(encoder(images)))
    others = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    assert np.abs(encoder(others)).max() < 1e3


def test_images_that_come_later_are_not_blown_up_where_few_vary(digits):
    encoder = build_encoder((8, 8, 1), latent_dim=16)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=16))
    images = digits.images / np.float32(255)
    scale_latents(autoencoder, np.asarray(encoder(images[:6])))
    few, later = (np.linalg.norm(encoder(part), axis=1).mean() for part in (images[:6], images[6:500]))
    assert later < 2 * few


@pytest.mark.parametrize("latent_dim", [16, 500])
@pytest.mark.parametrize("channels", [1, 3])
def test_latents_begin_as_components_of_what_is_measured(latent_dim, channels):
    source = ArraySource("any", np.random.default_rng(5).integers(0, 256, (600, 8, 8, channels), np.uint8), ["a"] * 600)
    images = readable_images(source, (8, 8, channels))
    encoder = build_encoder((8, 8, channels), architecture="gradients", latent_dim=latent_dim)
    start_from_components(encoder, images, np.arange(600), seed=0)
    latents = encoder.get_layer("latents")
    kernel, bias = latents.get_weights()
    kernel[:HIDDEN_UNITS] = 0
    latents.set_weights([kernel, bias])
    pixels = source.images / np.float32(255)
    measures = [oriented_gradients, cell_means, *([colour_histogram] if channels == 3 else [])]
    measured = np.concatenate([measure(pixels) for measure in measures], axis=1)
    expected = fit_components(lambda: iter([measured]), latent_dim, seed=0).of(measured)
    found = encoder(pixels).numpy()[:, : expected.shape[1]]
    # The last ones are mostly rounding; any may point the other way.
    np.testing.assert_allclose(np.abs(found)[:, :200], np.abs(expected)[:, :200], atol=5e-3)
    assert np.isfinite(encoder(pixels)).all()


@pytest.mark.parametrize("count", [1, 3])
def test_few_images_begin_with_the_components_that_they_span(digits, count):
    config = configure(digits, TrainingOptions(latent_dim=16))
    images = readable_images(digits, config.image_shape)
    encoder = build_encoder(config.image_shape, architecture="gradients", latent_dim=16)
    before = encoder.get_layer("latents").kernel.numpy()
    start_from_components(encoder, images, np.arange(count), seed=0)
    changed = (encoder.get_layer("latents").kernel.numpy() != before).any(axis=0)
    assert changed.tolist() == [True] * max(1, count - 1) + [False] * (16 - max(1, count - 1))
    assert np.isfinite(encoder(digits.images[:9] / np.float32(255))).all()


def test_an_encoder_that_measures_nothing_begins_at_random(digits):
    images = readable_images(digits, (8, 8, 1))
    encoder = build_encoder((8, 8, 1), architecture="conv", latent_dim=8)
    before = encoder.get_weights()
    start_from_components(encoder, images, np.arange(9), seed=0)
    assert all(np.array_equal(*both) for both in zip(before, encoder.get_weights(), strict=True))
