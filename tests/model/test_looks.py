"""What is measured of an image behind a backbone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_backbones import convolutions, saved

from ae_search.model.backbone import APPLICATIONS, load_backbone
from ae_search.model.backbone.encoder import combining_model, measuring_model, observing_model, reconstructed_shape
from ae_search.model.backbone.looks import Look, SignedRoot, central_size, size_for
from ae_search.model.histograms import oriented_gradients
from ae_search.model.hsv_histogram import hsv_histogram

IMAGES = np.random.default_rng(0).random((3, 46, 46, 3), np.float32)


@pytest.mark.parametrize("side_px", sorted({one.side_px for one in APPLICATIONS.values()} | {32, 33, 1}))
def test_the_centre_of_images_has_the_size_of_the_backbone(side_px):
    assert central_size(size_for((side_px, side_px))) == (side_px, side_px)


def test_a_central_look_is_cut_out_and_not_resized():
    seen = Look((32, 32), share=0.7)(IMAGES)
    np.testing.assert_array_equal(seen, IMAGES[:, 7:39, 7:39])
    np.testing.assert_array_equal(Look((32, 32), share=0.7, mirrored=True)(IMAGES), IMAGES[:, 7:39, 7:39][:, :, ::-1])


def test_a_whole_look_is_averaged_down():
    even = np.full((1, 46, 46, 3), 0.25, np.float32)
    even[:, ::2] = 0.75
    np.testing.assert_allclose(Look((23, 23))(even), 0.5, atol=0.13)
    np.testing.assert_allclose(Look((23, 23))(IMAGES), tf.image.resize(IMAGES, (23, 23), antialias=True), atol=1e-6)


def test_a_look_is_saved_as_it_is(tmp_path):
    image = keras.Input((46, 46, 3))
    keras.Model(image, Look((20, 24), share=0.5, mirrored=True)(image)).save(tmp_path / "look.keras")
    loaded = keras.models.load_model(tmp_path / "look.keras")
    np.testing.assert_array_equal(loaded(IMAGES), Look((20, 24), share=0.5, mirrored=True)(IMAGES))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_what_is_measured_is_a_sum_of_unit_features_beside_unit_histograms(tmp_path):
    backbone = load_backbone(saved(convolutions(), tmp_path / "b.keras")).model
    whole, centre = tf.image.resize(IMAGES, (32, 32), antialias=True).numpy(), IMAGES[:, 7:39, 7:39]
    features = [unit(np.asarray(backbone(look))) for look in (whole, whole[:, :, ::-1], centre)]
    rooted = unit(np.sqrt(np.abs(summed := unit(sum(features)))) * np.sign(summed))
    histograms = [np.asarray(histogram(IMAGES)) for histogram in (hsv_histogram, oriented_gradients)]
    expected = np.hstack([rooted, *map(unit, histograms)])
    measuring = measuring_model(backbone, (46, 46, 3))
    np.testing.assert_allclose(measuring(IMAGES), expected, atol=2e-3)
    # And what is kept on disk leads to the same.
    kept, *told, pixels = observing_model(backbone, (46, 46, 3))(IMAGES)
    np.testing.assert_allclose(combining_model(16, (512, 392))([kept, *told]), measuring(IMAGES), atol=1e-5)
    np.testing.assert_allclose(pixels, IMAGES, atol=1e-6)


def test_behind_looks_nothing_runs_as_if_it_trained(tmp_path):
    backbone = load_backbone(saved(convolutions(), tmp_path / "b.keras")).model
    image = keras.Input((46, 46, 3))
    measured = measuring_model(backbone, (46, 46, 3))(image)
    encoder = keras.Model(image, keras.layers.BatchNormalization()(measured))
    np.testing.assert_allclose(encoder(IMAGES), encoder(IMAGES, training=False), atol=1e-6)


def test_roots_have_an_end_to_their_slope():
    values = tf.constant([[0.0, 1e-9, 0.25, -0.25]])
    with tf.GradientTape() as tape:
        tape.watch(values)
        roots = SignedRoot()(values)
    np.testing.assert_allclose(roots, [[0.0, 1e-6, 0.5, -0.5]], atol=1e-5)
    assert np.isfinite(tape.gradient(roots, values)).all()


def test_images_are_given_back_small():
    assert reconstructed_shape((320, 320, 3)) == (64, 64, 3)
    assert reconstructed_shape((427, 300, 3)) == (61, 43, 3)
    assert reconstructed_shape((46, 64, 3)) == (46, 64, 3)
