"""The pictures that an export is checked with, and the encoders of ae_search on them."""

import itertools

import keras
import numpy as np
import pytest

from ae_search.export.adapter import AdaptedEncoder
from ae_search.export.parity import check_latents, check_pictures
from ae_search.model import build_encoder


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 3), (64, 48, 3), (224, 224, 3), (17, 200, 1)])
def test_pictures_look_different_and_most_are_smooth(shape):
    pictures = check_pictures(shape)
    assert pictures.dtype == np.uint8 and pictures.shape == (6, *shape)
    np.testing.assert_array_equal(pictures, check_pictures(shape))
    for first, second in itertools.combinations(pictures.astype(float), 2):
        assert np.abs(first - second).mean() > 8
    assert pictures.min() < 30 and pictures.max() > 220
    steps = np.abs(np.diff(pictures.astype(float), axis=2)).mean(axis=(1, 2, 3))
    if shape[1] > 8:
        assert np.all(steps[:5] < 36) and steps[5] > 45


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 9, 3), (2, 2, 1)])
def test_images_of_a_few_pixels_have_pictures_too(shape):
    encoder = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
    assert check_latents(AdaptedEncoder.of(encoder, None, None)).shape == (6, np.prod(shape))


@pytest.mark.parametrize("architecture", ["gradients", "conv"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_untrained_encoders_of_our_own_tell_them_apart(architecture, shape, caplog):
    keras.utils.set_random_seed(1)
    adapted = AdaptedEncoder.of(build_encoder(shape, architecture=architecture), None, None)
    assert check_latents(adapted).shape == (6, adapted.latent_dim)
    assert adapted.input_range == "0-1"
    assert not caplog.records
