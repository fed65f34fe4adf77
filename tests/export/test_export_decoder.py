"""The signature `decode`: what Keras answers, resized where the decoder is smaller; left out where there is none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ae_search.contract import ModelCard
from ae_search.errors import ConfigurationError, ExportError
from ae_search.export import export_encoder, fingerprint
from ae_search.model import build_decoder

DIM, SHAPE = 8, (16, 16, 3)


@pytest.fixture(scope="module")
def small_decoder():
    """Half as high and a quarter as wide as the encoder's images."""
    keras.utils.set_random_seed(7)
    return build_decoder((8, 4, 3), latent_dim=DIM)


@pytest.fixture(scope="module")
def exported(tiny_encoder, small_decoder, tmp_path_factory):
    folder = export_encoder(tiny_encoder, tmp_path_factory.mktemp("decoder") / "tiny", decoder=small_decoder)
    return folder, tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def decode(exported):
    return exported[1].signatures["decode"]


@pytest.fixture(scope="module")
def latents():
    return np.random.default_rng(0).normal(0, 3, (11, DIM)).astype(np.float32)


def test_smaller_images_are_resized_in_the_graph(decode, small_decoder, latents):
    images = decode(latents=tf.constant(latents))["images"].numpy()
    small = tf.sigmoid(small_decoder(latents, training=False))
    np.testing.assert_allclose(images, tf.image.resize(small, SHAPE[:2], antialias=True), atol=1e-4)
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1


def test_requests_that_are_joined_get_what_each_would_get_alone(decode, latents):
    joined = decode(latents=tf.constant(latents))["images"].numpy()
    for at, latent in enumerate(latents):
        np.testing.assert_allclose(decode(latents=tf.constant(latent[None]))["images"][0], joined[at], atol=1e-5)


def test_no_rows_are_refused(decode):
    with pytest.raises(tf.errors.InvalidArgumentError, match="no latent"):
        decode(latents=tf.zeros((0, DIM)))


def test_the_card_says_so_and_latents_stay_comparable(exported, tiny_encoder, tiny_export):
    def card(signatures):
        return ModelCard.from_json(signatures["describe"](rows=tf.zeros(1, tf.int32))["model_card"].numpy().item())

    signatures = exported[1].signatures
    assert card(signatures).decodes
    assert card(signatures).fingerprint == fingerprint(tiny_encoder, SHAPE)
    without = tf.saved_model.load(str(tiny_export / "1")).signatures
    assert "decode" not in without and not card(without).decodes


def test_it_is_warmed_up(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    path = exported[0] / "assets.extra" / "tf_serving_warmup_requests"
    rows = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        if request.model_spec.signature_name == "decode":
            rows.append(tf.make_ndarray(request.inputs["latents"]).shape)
    assert rows == [(1, DIM), (32, DIM)]


def _model(output_shape, dim=DIM, **layer):
    latents = keras.Input((dim,))
    dense = keras.layers.Dense(int(np.prod(output_shape)), **layer)(latents)
    return keras.Model(latents, keras.layers.Reshape(output_shape)(dense))


REFUSED = {
    "no model": lambda: "decoder.keras",
    "other latents": lambda: _model((16, 16, 3), dim=DIM + 1),
    "other channels": lambda: _model((16, 16, 1)),
    "no images": lambda: _model((16, 48)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_decoder_of_these_latents_is_refused(tiny_encoder, tmp_path, what):
    with pytest.raises(ConfigurationError, match="decoder"):
        export_encoder(tiny_encoder, tmp_path / "tiny", decoder=REFUSED[what]())
    assert not (tmp_path / "tiny").exists()


def test_a_decoder_whose_images_are_not_finite_is_not_published(tiny_encoder, tmp_path):
    broken = _model(SHAPE, bias_initializer=keras.initializers.Constant(np.nan))
    with pytest.raises(ExportError, match="images are not finite"):
        export_encoder(tiny_encoder, tmp_path / "tiny", decoder=broken)
    assert not (tmp_path / "tiny").exists()
