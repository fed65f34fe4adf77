"""Latents as principal components, before the training and after it."""

import keras
import numpy as np
import pytest

from ae_search.data import ArraySource
from ae_search.data.pipeline import readable_images
from ae_search.model import build_autoencoder, build_decoder, build_encoder
from ae_search.model.gradients import HIDDEN_UNITS
from ae_search.model.histograms import cell_means, oriented_gradients
from ae_search.model.hsv_histogram import hsv_histogram
from ae_search.model.parts import KINDS, copies_from
from ae_search.principal import fit_components
from ae_search.training import TrainingOptions, configure
from ae_search.training.neighbour_components import neighbour_components
from ae_search.training.scaling import scale_latents
from ae_search.training.starting import colour_weight, effective_dimensions, start_from_components


@pytest.mark.parametrize("architecture", ["gradients", "conv"])
def test_scaling_changes_the_latents_and_not_the_reconstruction(architecture):
    shape = (12, 12, 1)
    encoder = build_encoder(shape, architecture=architecture, latent_dim=6)
    autoencoder = build_autoencoder(encoder, build_decoder(shape, architecture=architecture, latent_dim=6))
    images = np.random.default_rng(0).random((500, *shape), np.float32)
    latents, logits = np.asarray(encoder(images)), np.asarray(autoencoder(images))
    scale_latents(autoencoder, lambda model: np.asarray(model(images)))
    after = np.asarray(encoder(images), np.float64)
    np.testing.assert_allclose(autoencoder(images), logits, atol=1e-3)
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)
    # The covariance is diagonal, and its entries are the square roots of the eigenvalues before.
    values = np.sort(np.linalg.eigvalsh(np.cov(latents.T, bias=True)))[::-1]
    np.testing.assert_allclose(np.cov(after.T, bias=True), np.diag(np.sqrt(values)), atol=1e-3 * np.sqrt(values[0]))


def test_of_two_parts_the_one_that_tells_kinds_is_scaled():
    shape = (12, 12, 1)
    encoder = build_encoder(shape, latent_dim=24, parts=True)
    autoencoder = build_autoencoder(encoder, build_decoder(shape, latent_dim=24))
    images = np.random.default_rng(0).random((500, *shape), np.float32)
    latents, logits = np.asarray(encoder(images)), np.asarray(autoencoder(images))
    scale_latents(autoencoder, lambda model: np.asarray(model(images)))
    after, first = np.asarray(encoder(images)), copies_from(encoder)
    np.testing.assert_allclose(after[:, first:], latents[:, first:], atol=1e-4)
    kinds = np.asarray(keras.Model(encoder.input, encoder.get_layer(KINDS).output)(images), np.float64)
    covariance = np.cov(kinds.T, bias=True)
    np.testing.assert_allclose(kinds.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3 * covariance[0, 0])
    errors = np.asarray(autoencoder(images)) - logits
    # The way back is estimated; over 40 draws of the weights between .05 and .14 of the spread is lost.
    assert errors.std() < 0.2 * logits.std()


def test_one_float_can_be_scaled():
    encoder = build_encoder((8, 8, 1), latent_dim=1)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=1))
    images = np.random.default_rng(0).random((50, 8, 8, 1), np.float32)
    logits = np.asarray(autoencoder(images))
    scale_latents(autoencoder, lambda model: np.asarray(model(images)))
    np.testing.assert_allclose(autoencoder(images), logits, atol=1e-3)


def test_equal_images_are_only_centred():
    encoder = build_encoder((8, 8, 1), latent_dim=3)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=3))
    images = np.zeros((5, 8, 8, 1), np.float32)
    scale_latents(autoencoder, lambda model: np.asarray(model(images)))
    others = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    assert np.abs(encoder(others)).max() < 1e3


def test_images_that_come_later_are_not_blown_up_where_few_vary(digits):
    encoder = build_encoder((8, 8, 1), latent_dim=16)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=16))
    images = digits.images / np.float32(255)
    scale_latents(autoencoder, lambda model: np.asarray(model(images[:6])))
    few, later = (np.linalg.norm(encoder(part), axis=1).mean() for part in (images[:6], images[6:500]))
    assert later < 2 * few


@pytest.mark.parametrize("latent_dim", [16, 500])
def test_latents_begin_as_components_of_what_is_measured(latent_dim):
    source = ArraySource("any", np.random.default_rng(5).integers(0, 256, (600, 8, 8, 1), np.uint8), ["a"] * 600)
    images = readable_images(source, (8, 8, 1))
    encoder = build_encoder((8, 8, 1), architecture="gradients", latent_dim=latent_dim)
    start_from_components(encoder, images, np.arange(600), seed=0)
    latents = encoder.get_layer("latents")
    kernel, bias = latents.get_weights()
    kernel[:HIDDEN_UNITS] = 0
    latents.set_weights([kernel, bias])
    pixels = source.images / np.float32(255)
    measured = np.concatenate([measure(pixels) for measure in (oriented_gradients, cell_means)], axis=1)
    expected = fit_components(lambda: iter([measured]), latent_dim, seed=0).of(measured)
    found = encoder(pixels).numpy()[:, : expected.shape[1]]
    # The last ones are mostly rounding; any may point the other way.
    np.testing.assert_allclose(np.abs(found)[:, :200], np.abs(expected)[:, :200], atol=5e-3)
    assert np.isfinite(encoder(pixels)).all()


def in_colour(count=300):
    """Shapes of random pixels in a few colours."""
    random = np.random.default_rng(5)
    tints = random.random((6, 3))[random.integers(0, 6, count)]
    pixels = random.integers(0, 256, (count, 16, 16, 1)) * tints[:, None, None]
    return ArraySource("any", pixels.astype(np.uint8), ["a"] * count)


def unit_length(rows):
    """Centre vectors, and scale them so that their mean squared length is 1."""
    centred = np.asarray(rows, np.float64) - np.mean(rows, axis=0, dtype=np.float64)
    return centred / np.sqrt((centred**2).sum(axis=1).mean())


def test_latents_of_colour_begin_as_components_of_weighted_groups():
    source = in_colour()
    pixels = source.images / np.float32(255)
    kinds = ({}, {"cells": 4}, {"orientations": 9, "signed": False})
    shapes = np.concatenate([oriented_gradients(pixels, **kind) for kind in kinds], axis=1)
    colours = hsv_histogram(pixels).numpy()
    narrowed = fit_components(lambda: iter([shapes]), 256, seed=0, power=-0.15).of(shapes)
    weights = (1.0, 0.15, colour_weight(shapes, colours))
    parts = [w * unit_length(part) for w, part in zip(weights, (narrowed, cell_means(pixels), colours), strict=True)]
    rows = np.concatenate(parts, axis=1).astype(np.float32)
    found = neighbour_components(rows, 299).of(rows)
    # The floats of a latent have root mean square 1.
    expected = np.sqrt(found.shape[1]) * unit_length(found)
    encoder = build_encoder((16, 16, 3), architecture="gradients", latent_dim=299)
    start_from_components(encoder, readable_images(source, (16, 16, 3)), np.arange(300), seed=0)
    latents = np.asarray(encoder(pixels), np.float64)
    # Products stay the same, whatever way the components point.
    np.testing.assert_allclose(latents @ latents.T, expected @ expected.T, atol=2e-3 * (expected**2).sum(axis=1).max())


def test_dimensions_are_those_that_vectors_vary_in():
    rows = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32)
    assert effective_dimensions(rows) == pytest.approx(6, rel=0.02)
    assert effective_dimensions(rows * [1, 1, 1, 0, 0, 0]) == pytest.approx(3, rel=0.02)
    assert effective_dimensions(rows[:, :1] * np.ones((1, 5), np.float32)) == pytest.approx(1)
    assert effective_dimensions(np.ones((4, 3), np.float32)) == 1


def test_colours_that_have_kinds_count_more_than_those_of_any_background():
    random = np.random.default_rng(0)
    shapes = random.normal(size=(500, 40)).astype(np.float32)
    kinds, any_ = shapes[:, :4] @ random.normal(size=(4, 30)), random.normal(size=(500, 30))
    assert colour_weight(shapes, kinds.astype(np.float32)) == 4.0
    assert colour_weight(shapes, any_.astype(np.float32)) == 0.25
    assert 0.25 < colour_weight(shapes, shapes[:, :16]) < 4.0


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
