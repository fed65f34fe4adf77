"""Shapes and layers of the submodels."""

import keras
import numpy as np
import pytest

from ae_search.model import build_autoencoder, build_decoder, build_encoder, latent_dim_of

SHAPES = [(28, 28, 1), (8, 8, 1), (31, 45, 3), (64, 64, 3), (128, 20, 3)]


@pytest.mark.parametrize("architecture", ["gradients", "conv", "tutorial"])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_image_size_comes_back_in_its_own_size(architecture, shape):
    encoder = build_encoder(shape, architecture=architecture)
    decoder = build_decoder(shape, architecture=architecture)
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    latents = encoder(images)
    assert latents.shape == (2, latent_dim_of(shape, architecture))
    autoencoder = build_autoencoder(encoder, decoder)
    assert autoencoder(images).shape == images.shape
    np.testing.assert_array_equal(autoencoder(images), decoder(latents))


def test_the_tutorial_is_the_tutorials():
    encoder = build_encoder((28, 28, 1), architecture="tutorial")
    decoder = build_decoder((28, 28, 1), architecture="tutorial")
    kinds = (keras.layers.Conv2D, keras.layers.MaxPooling2D, keras.layers.UpSampling2D, keras.layers.Cropping2D)
    sides = [layer.output.shape[1] for layer in encoder.layers if isinstance(layer, kinds)]
    assert sides == [28, 14, 14, 7, 7, 4]
    assert [layer.output.shape[1] for layer in decoder.layers if isinstance(layer, kinds)] == [
        8,
        7,
        7,
        14,
        14,
        28,
        28,
        28,
    ]
    # 3 * 3 * in * out + out for each of the six convolutions and the logits
    assert encoder.count_params() == 160 + 1160 + 584
    assert decoder.count_params() == 584 + 584 + 1168 + 145
    assert encoder.output_shape == (None, 128)


def test_latent_dim_of_conv_is_free_and_of_tutorial_fixed():
    assert build_encoder((28, 28, 1), latent_dim=17).output_shape == (None, 17)
    with pytest.raises(ValueError, match="128 floats"):
        build_encoder((28, 28, 1), architecture="tutorial", latent_dim=64)
    with pytest.raises(ValueError, match="architecture must be one of"):
        build_encoder((28, 28, 1), architecture="vgg")
