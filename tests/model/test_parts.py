"""Latents of two parts: their lengths, and that no training changes what tells copies."""

import keras
import numpy as np
import pytest

from ae_search.model import build_encoder
from ae_search.model.parts import COPIES, COPIES_LENGTH, KINDS, LEARNED_LENGTH, copies_from, floats_of_kinds

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(1)
    built = build_encoder(SHAPE, latent_dim=24, parts=True)
    kernel, bias = built.get_layer(COPIES).get_weights()
    built.get_layer(COPIES).set_weights([kernel, bias - 0.1])
    return built


def images(count):
    return np.random.default_rng(0).uniform(size=(count, *SHAPE)).astype(np.float32)


def test_each_part_has_its_length(encoder):
    latents = encoder.predict(images(5), verbose=0)
    first = copies_from(encoder)
    assert (latents.shape, first) == ((5, 24), floats_of_kinds(24)) == ((5, 24), 15)
    assert np.linalg.norm(latents, axis=1) == pytest.approx(np.sqrt([24.0] * 5), rel=1e-5)
    lengths = [np.linalg.norm(part, axis=1) for part in (latents[:, :first], latents[:, first:])]
    assert lengths[1] / lengths[0] == pytest.approx([COPIES_LENGTH] * 5, rel=1e-5)


def test_a_part_of_zeros_stays_one():
    built = build_encoder(SHAPE, latent_dim=16, parts=True)
    for name in (KINDS, COPIES):
        layer = built.get_layer(name)
        layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])
    assert (built.predict(images(2), verbose=0) == 0).all()


def test_an_encoder_is_saved_and_loaded_with_its_parts(encoder, tmp_path):
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    assert copies_from(loaded) == 15
    assert loaded.predict(images(3), verbose=0) == pytest.approx(encoder.predict(images(3), verbose=0), abs=1e-6)


def test_training_leaves_what_tells_copies_as_it_is(encoder):
    before = [weights.copy() for weights in encoder.get_layer(COPIES).get_weights()]
    others = encoder.get_layer(KINDS).get_weights()[0].copy()
    model = keras.Sequential([encoder, keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(images(8), np.ones((8, 2)), epochs=2, verbose=0)
    assert all(np.array_equal(*pair) for pair in zip(before, encoder.get_layer(COPIES).get_weights(), strict=True))
    assert not np.array_equal(others, encoder.get_layer(KINDS).get_weights()[0])


def test_what_is_to_be_learned_of_copies_is_trained():
    built = build_encoder((12, 12, 1), latent_dim=24, parts=True, learned_copies=True)
    first = copies_from(built)
    before = [built.get_layer(name).get_weights()[0].copy() for name in (COPIES, "copies_hidden", "hidden")]
    model = keras.Sequential([built, keras.layers.Lambda(lambda latents: latents[:, first:])])
    model.compile("sgd", "mse")
    model.fit(images(8)[:, :12, :12, :1], np.ones((8, 24 - first)), epochs=2, verbose=0)
    after = [built.get_layer(name).get_weights()[0] for name in (COPIES, "copies_hidden", "hidden")]
    # What says what an image shows has no share in it.
    assert [np.array_equal(*pair) for pair in zip(before, after, strict=True)] == [False, False, True]
    latents = built.predict(images(3)[:, :12, :12, :1], verbose=0)
    shares = np.linalg.norm(latents[:, first:], axis=1) / np.linalg.norm(latents[:, :first], axis=1)
    assert shares == pytest.approx([LEARNED_LENGTH] * 3, rel=1e-5)


def test_others_have_one_part():
    assert copies_from(build_encoder(SHAPE, latent_dim=24)) is None
    assert copies_from(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])) is None


def test_parts_are_told_where_they_leave_the_model_as_they_are(encoder):
    image = keras.Input(SHAPE)
    assert copies_from(keras.Model(image, encoder(image))) == 15
    assert copies_from(keras.Model(image, keras.layers.Dense(2)(encoder(image)))) is None
