"""Encoders of the user's own, as users write them: fed what they want, and answering as their own `predict` does."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from pictures import coloured_picture, encoded

from ae_search.errors import AeSearchError
from ae_search.export import export_encoder, fingerprint
from ae_search.export.adapter import AdaptedEncoder
from ae_search.export.parity import check_latents
from ae_search.model.input_range import detect_range
from ae_search.model_server import LocalEncoder

SHAPE = (24, 20, 3)
PIXELS = np.stack([np.asarray(coloured_picture(seed, (20, 24))) for seed in range(5)])


def slow(*names):
    """Mark parameters that take long and prove of further encoders what their neighbours prove already."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(1)


def body(x):
    """What comes behind the preprocessing; its biases make it matter how large the values are."""
    bias = keras.initializers.RandomNormal(stddev=0.5, seed=3)
    x = layers.Conv2D(6, 3, strides=2, activation="relu", bias_initializer=bias, name="conv")(x)
    return layers.Dense(5, bias_initializer=bias, name="latents")(layers.Flatten(name="flat")(x))


def model(*first, dtype="float32", shape=SHAPE):
    image = keras.Input(shape, dtype=dtype, name="image")
    x = image
    for layer in first:
        x = layer(x)
    return keras.Model(image, body(x))


def values(pixels, input_range, dtype="float32"):
    """Pixels as the encoder wants them, without any code of ae_search."""
    scaled = {"0-1": pixels / 255.0, "0-255": pixels.astype(float), "-1-1": pixels / 127.5 - 1.0}[input_range]
    return tf.cast(scaled, dtype)


def predicted(encoder, fed):
    named = isinstance(getattr(encoder, "input", None), dict)
    answer = encoder.predict({"photo": fed} if named else fed, verbose=0)
    while isinstance(answer, dict | list):
        (answer,) = answer.values() if isinstance(answer, dict) else answer
    return answer.astype(np.float32)


def check(folder, encoder, input_range, *, dtype="float32", tolerance=1e-4, pixels=PIXELS):
    """Read an export back: pixels, floats and files have the latents that Keras itself predicts."""
    expected = predicted(encoder, values(pixels, input_range, dtype))
    assert np.abs(expected[0] - expected[1]).max() > 10 * tolerance * np.abs(expected).max()
    local = LocalEncoder(folder)
    files = [encoded(coloured_picture(seed, (pixels.shape[2], pixels.shape[1]))) for seed in range(len(pixels))]
    for latents in (local.encode(pixels), local.encode(pixels / np.float32(255)), local.encode_files(files)):
        assert latents.dtype == np.float32
        np.testing.assert_allclose(latents, expected, atol=tolerance * np.abs(expected).max())
    card = local.describe()
    assert (card.training["input_range"], card.training["input_dtype"]) == (input_range, dtype)


def check_adapted(encoder, input_range, *, dtype="float32", tolerance=1e-4, pixels=PIXELS, asked=None):
    """The same without writing anything: what is going to be exported."""
    adapted = AdaptedEncoder.of(encoder, None, asked)
    assert (adapted.input_range, adapted.dtype) == (input_range, dtype)
    check_latents(adapted)
    expected = predicted(encoder, values(pixels, input_range, dtype))
    latents = adapted(tf.constant(pixels / np.float32(255)))
    assert latents.dtype == tf.float32
    np.testing.assert_allclose(latents, expected, atol=tolerance * np.abs(expected).max())


def augmentation():
    return keras.Sequential([layers.RandomFlip("horizontal", seed=1), layers.RandomRotation(0.1, seed=1)])


def adapted_normalization():
    layer = layers.Normalization()
    layer.adapt(PIXELS.astype(np.float32))
    return layer


def maps(first):
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.Conv2D(3, 3)(first(image)))


WANTING = {
    "nothing known": (lambda: model(), "0-1"),
    "uint8": (lambda: model(layers.Rescaling(1 / 255), dtype="uint8"), "0-255"),
    "uint8 that the network itself casts": (
        lambda: model(lambda x: keras.ops.cast(x, "float32"), dtype="uint8"),
        "0-255",
    ),
    "int32": (lambda: model(layers.Rescaling(1 / 127.5, offset=-1), dtype="int32"), "0-255"),
    "uint16": (lambda: model(layers.Rescaling(1 / 255), dtype="uint16"), "0-255"),
    "float16": (lambda: model(layers.Rescaling(1 / 255), dtype="float16"), "0-255"),
    "bfloat16": (lambda: model(layers.Rescaling(1 / 255), dtype="bfloat16"), "0-255"),
    "float64": (lambda: model(dtype="float64"), "0-1"),
    "Rescaling to 0-1": (lambda: model(layers.Rescaling(1 / 255)), "0-255"),
    "Rescaling to -1-1": (lambda: model(layers.Rescaling(1 / 127.5, offset=-1)), "0-255"),
    "Rescaling, inverted": (lambda: model(layers.Rescaling(-1 / 255, offset=1)), "0-255"),
    "Rescaling of 0-1": (lambda: model(layers.Rescaling(2.0, offset=-1)), "0-1"),
    "Rescaling from 0-1 to bytes": (lambda: model(layers.Rescaling(255.0), layers.Rescaling(1 / 255)), "0-1"),
    "Rescaling of -1-1": (lambda: model(layers.Rescaling(0.5, offset=0.5)), "-1-1"),
    "Rescaling that says nothing": (lambda: model(layers.Rescaling(1.0)), "0-1"),
    "Rescaling by channel": (
        lambda: model(layers.Rescaling([1 / 58.4, 1 / 57.1, 1 / 57.4], offset=[-2.1, -2.0, -1.8])),
        "0-255",
    ),
    "arithmetic": (lambda: model(lambda x: x / 127.5 - 1.0), "0-255"),
    "as Caffe": (lambda: model(lambda x: x[..., ::-1] - np.array([103.9, 116.8, 123.7], np.float32)), "0-255"),
    "Normalization of bytes": (lambda: model(adapted_normalization()), "0-255"),
    "Normalization of 0-1": (lambda: model(layers.Normalization(mean=[0.5] * 3, variance=[0.06] * 3)), "0-1"),
    "Normalization of -1-1": (lambda: model(layers.Normalization(mean=[-0.2] * 3, variance=[0.2] * 3)), "-1-1"),
    "Normalization, not adapted": (lambda: model(layers.Normalization()), "0-1"),
    "augmentation first": (lambda: model(augmentation(), layers.Rescaling(1 / 255)), "0-255"),
    "Dropout first": (lambda: model(layers.Dropout(0.5), layers.Rescaling(1 / 255)), "0-255"),
    "in an inner model": (lambda: model(maps(layers.Rescaling(1 / 255))), "0-255"),
    "in an inner model, behind augmentation": (lambda: model(augmentation(), maps(lambda x: x / 255.0)), "0-255"),
    "undone for an inner model": (lambda: model(layers.Rescaling(255.0), maps(layers.Rescaling(1 / 255))), "0-1"),
    "Sequential": (
        lambda: keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(4)]),
        "0-255",
    ),
    "both behind the input": (
        lambda: model(lambda x: layers.Concatenate()([layers.Rescaling(1 / 255)(x), layers.Rescaling(2.0)(x)])),
        "0-1",
    ),
}


@pytest.mark.parametrize("name", WANTING)
def test_each_encoder_is_fed_what_its_input_wants(name, caplog):
    make, input_range = WANTING[name]
    encoder = make()
    dtype = str(encoder.inputs[0].dtype)
    tolerance = 2e-2 if dtype in ("float16", "bfloat16") else 1e-4
    with caplog.at_level(logging.INFO):
        check_adapted(encoder, input_range, dtype=dtype, tolerance=tolerance)
    (line,) = [record for record in caplog.records if record.name == "ae_search.model.input_range"]
    assert line.levelname == "INFO" and f"{dtype} images in {input_range}" in line.getMessage()


@pytest.mark.parametrize("name", ["uint8", "float16", "Rescaling to 0-1", *slow("int32", "Rescaling of -1-1")])
@pytest.mark.slow
def test_the_export_feeds_it_too(name, tmp_path):
    make, input_range = WANTING[name]
    encoder = make()
    dtype = str(encoder.inputs[0].dtype)
    folder = export_encoder(encoder, tmp_path / "own")
    check(folder, encoder, input_range, dtype=dtype, tolerance=5e-3 if dtype == "float16" else 1e-4)


@pytest.mark.parametrize("asked", ["0-1", "0-255", "-1-1"])
def test_the_option_wins_and_a_disagreement_is_said(asked, caplog):
    told, silent = model(layers.Rescaling(1 / 127.5, offset=-1)), model()
    for encoder, wanted in ((told, "0-255"), (silent, None)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "ae_search.model.input_range"):
            check_adapted(encoder, asked, asked=asked)
        warned = [one for one in caplog.records if one.levelname == "WARNING" and one.name.endswith("input_range")]
        assert bool(warned) == (wanted not in (None, asked))
    assert fingerprint(silent, SHAPE) == fingerprint(silent, SHAPE, "0-1")
    assert len({fingerprint(silent, SHAPE, each) for each in ("0-1", "0-255", "-1-1")}) == 3


@pytest.mark.slow
def test_latents_that_hardly_differ_are_warned_of(tmp_path, caplog):
    """What an encoder gives that wants bytes and does not say so."""

    class Bytes(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = model()

        def call(self, images):
            return self.inner(tf.cast(images, tf.float32) / 255.0)

    export_encoder(Bytes(), tmp_path / "own", image_shape=SHAPE)
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "nearly the same" in caplog.text and "--input-range" in caplog.text
    caplog.clear()
    encoder = Bytes()
    check(export_encoder(encoder, tmp_path / "own", image_shape=SHAPE, input_range="0-255"), encoder, "0-255")
    assert not caplog.records


def functional(outputs, shape=SHAPE):
    image = keras.Input(shape, name="image")
    return keras.Model(image, outputs(image))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.rescale = layers.Rescaling(1 / 255)
        self.conv = layers.Conv2D(4, 3, activation="relu")
        self.drop = layers.Dropout(0.5)
        self.pool = layers.GlobalAveragePooling2D()

    def call(self, images, training=None):
        x = self.conv(self.rescale(images))
        return self.pool(self.drop(tf.sqrt(x + 0.01), training=training))


class WithoutTraining(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.flat, self.dense = layers.Flatten(), layers.Dense(width)

    def call(self, images):
        return {"latents": self.dense(self.flat(images))}


def named_input():
    image = keras.Input(SHAPE, name="photo")
    return keras.Model({"photo": image}, body(image))


def built(encoder):
    encoder(np.zeros((2, *SHAPE), np.float32))
    return encoder


# How it is made, (h, w, c) where it does not say that itself, and the range.
FORMS = {
    "a dict of one": (lambda: functional(lambda x: {"latents": body(x)}), None, "0-1"),
    "a list of one": (lambda: functional(lambda x: [body(x)]), None, "0-1"),
    "a dict in a dict": (lambda: functional(lambda x: {"a": {"b": body(x)}}), None, "0-1"),
    "a named input": (named_input, None, "0-1"),
    "open sides": (
        lambda: functional(lambda x: layers.GlobalMaxPooling2D()(layers.Conv2D(5, 3)(x)), (None, None, 3)),
        SHAPE,
        "0-1",
    ),
    "not built": (
        lambda: keras.Sequential([layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)]),
        SHAPE,
        "0-255",
    ),
    "a subclass": (Subclassed, SHAPE, "0-1"),
    "a subclass that was called": (lambda: built(Subclassed()), None, "0-1"),
    "a subclass without training": (lambda: WithoutTraining(4), SHAPE, "0-1"),
    "layers of the training": (
        lambda: model(augmentation(), layers.BatchNormalization(), layers.Dropout(0.9), layers.GaussianNoise(0.9)),
        None,
        "0-1",
    ),
}


SLOW_FORMS = ("a list of one", "a dict in a dict", "a subclass that was called", "a subclass without training")


@pytest.mark.parametrize("name", [*(name for name in FORMS if name not in SLOW_FORMS), *slow(*SLOW_FORMS)])
@pytest.mark.slow
def test_each_form_of_model_is_taken(name, tmp_path):
    make, shape, input_range = FORMS[name]
    encoder = make()
    folder = export_encoder(encoder, tmp_path / "own", image_shape=shape)
    check(folder, encoder, input_range)


def test_a_subclass_of_layers_alone_says_its_range(tmp_path):
    class Layered(Subclassed):
        def call(self, images, training=None):
            return self.pool(self.conv(self.rescale(images)))

    encoder = Layered()
    check(export_encoder(encoder, tmp_path / "own", image_shape=SHAPE), encoder, "0-255")


def test_subclasses_of_equal_weights_have_other_fingerprints_where_their_layers_differ():
    first, second = built(WithoutTraining(4)), built(WithoutTraining(4))
    second.set_weights(first.get_weights())
    second.dense.name = first.dense.name
    second.flat.name = first.flat.name
    assert fingerprint(first, SHAPE) == fingerprint(second, SHAPE)
    second.dense.activation = keras.activations.tanh
    assert fingerprint(first, SHAPE) != fingerprint(second, SHAPE)


@pytest.mark.parametrize("policy", ["mixed_float16", *slow("mixed_bfloat16", "float16")])
def test_half_precision_gives_float32_latents(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        encoder = model(layers.Rescaling(1 / 255))
    finally:
        keras.config.set_dtype_policy("float32")
    assert "float16" in str(encoder.outputs[0].dtype)
    check(export_encoder(encoder, tmp_path / "own"), encoder, "0-255", tolerance=5e-3)


@pytest.mark.parametrize("application", ["MobileNetV3Small", *slow("EfficientNetB0", "ConvNeXtTiny")])
def test_keras_applications_that_scale_by_themselves_are_fed_bytes(application):
    backbone = getattr(keras.applications, application)(
        input_shape=(64, 64, 3), include_top=False, weights=None, pooling="avg"
    )
    assert detect_range(backbone, keras.Input((64, 64, 3))) == "0-255"


@pytest.mark.slow
def test_a_mobilenet_is_fed_bytes_behind_its_preprocessing_and_what_is_told_without(tmp_path):
    backbone = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    image = keras.Input((96, 96, 3))
    encoder = keras.Model(image, backbone(keras.applications.mobilenet_v2.preprocess_input(image)))
    pixels = np.stack([np.asarray(coloured_picture(seed, (96, 96))) for seed in range(3)])
    expected = predicted(backbone, values(pixels, "-1-1"))
    local = LocalEncoder(export_encoder(encoder, tmp_path / "own"))
    assert local.describe().training["input_range"] == "0-255"
    told = AdaptedEncoder.of(backbone, None, "-1-1")
    files = [encoded(coloured_picture(seed, (96, 96))) for seed in range(3)]
    floats = pixels / np.float32(255)
    for latents in (local.encode(pixels), local.encode_files(files), told(tf.constant(floats))):
        np.testing.assert_allclose(latents, expected, atol=1e-3 * np.abs(expected).max())


def constant(value):
    return functional(lambda x: layers.Rescaling(0.0, offset=value)(body(x)))


def two_inputs():
    one, two = keras.Input(SHAPE, name="left"), keras.Input(SHAPE, name="right")
    return keras.Model([one, two], body(layers.Add()([one, two])))


def in_python(x):
    @keras.saving.register_keras_serializable("tests")
    class InPython(layers.Layer):
        def call(self, images):
            done = tf.numpy_function(lambda values: values * 2, [images], tf.float32)
            return tf.ensure_shape(done, images.shape)

        def compute_output_shape(self, shape):
            return shape

    return InPython()(x)


class Raising(keras.Model):
    def call(self, images):
        raise KeyError("my own\nfault")


class AlwaysTraining(Subclassed):
    def call(self, images, training=None):
        return super().call(images, training=True)


class FixedRows(keras.Model):
    def call(self, images):
        return tf.reshape(images, (-1, 24 * 20))


REFUSED = {
    "two outputs in a dict": (
        lambda: functional(lambda x: {"latents": body(x), "label": layers.Flatten()(x)}),
        r"2 outputs, (label, latents|latents, label)\. .*encoder\.output\['latents'\]",
    ),
    "two outputs in a list": (
        lambda: functional(lambda x: [layers.Flatten(name="one")(x), layers.Flatten(name="two")(x)]),
        r"2 outputs, .*encoder\.output\[0\]",
    ),
    "maps": (
        lambda: functional(lambda x: layers.Conv2D(4, 3)(x)),
        r"Flatten or GlobalAveragePooling2D.*\(None, 22, 18, 4\)",
    ),
    "sequences": (
        lambda: functional(lambda x: layers.Reshape((20, 72))(x)),
        r"GlobalAveragePooling1D.*\(None, 20, 72\)",
    ),
    "single numbers": (lambda: functional(lambda x: keras.ops.mean(x, axis=(1, 2, 3))), r"output_shape=\(None,\)"),
    "two inputs": (two_inputs, "2 inputs, left, right"),
    "words": (lambda: functional(lambda x: layers.Dense(3)(x), (10,)), "must take images"),
    "channels first": (lambda: functional(lambda x: layers.Flatten()(x), (3, 24, 20)), "channels last.*Permute"),
    "four channels": (lambda: functional(lambda x: layers.Flatten()(x), (24, 20, 4)), "1 or 3"),
    "open sides": (
        lambda: functional(lambda x: layers.GlobalMaxPooling2D()(x), (None, None, 3)),
        r"--image-size HxW.*image_shape=",
    ),
    "a subclass of unknown shape": (Subclassed, "--image-size HxW, or HxWxC"),
    "batches of one size": (
        lambda: keras.Sequential([keras.Input(batch_shape=(8, *SHAPE)), layers.Flatten()]),
        "batches of 8.*without batch_size",
    ),
    "int8": (lambda: model(layers.Rescaling(1 / 255), dtype="int8"), "Received: an input of int8"),
    "a layer": (lambda: layers.Flatten(), "must be a keras.Model. Received: Flatten"),
    "the same for all": (lambda: constant(0.5), "15 of 15 pairs.*--input-range"),
    "zeros": (lambda: constant(0.0), "15 of 15 pairs, all zeros"),
    "NaN": (lambda: functional(lambda x: keras.ops.log(body(x) - 100.0)), "not finite"),
    "another each time": (
        lambda: built(AlwaysTraining()),
        "other latents each time.*training=True",
    ),
    "Python in it": (lambda: functional(lambda x: body(in_python(x))), "calls Python.*keras.ops"),
    "a uint8 cast of [0, 1]": (
        lambda: functional(lambda x: body(keras.ops.cast(keras.ops.cast(x, "uint8"), "float32"))),
        "the same latent.*--input-range",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_said_in_one_sentence_and_leaves_nothing(name, tmp_path):
    make, told = REFUSED[name]
    with pytest.raises(AeSearchError, match=told) as failed:
        export_encoder(make(), tmp_path / "own")
    assert "\n" not in str(failed.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("encoder", "shape", "told"),
    [
        (Raising, SHAPE, "cannot be called with one batch of float32 images .*my own"),
        (FixedRows, SHAPE, r"for n images"),
        (Subclassed, (2, 2, 3), "cannot be called"),
        (Subclassed, (24, 20, 4), "1 or 3 channels"),
        (Subclassed, (0, 20, 3), "at least 1 px"),
    ],
)
def test_a_subclass_that_fails_says_so_in_one_sentence(encoder, shape, told, tmp_path):
    with pytest.raises(AeSearchError, match=told) as failed:
        export_encoder(encoder(), tmp_path / "own", image_shape=shape)
    assert "\n" not in str(failed.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("dtype", "asked"), [("uint8", "0-1"), ("int32", "-1-1"), ("float32", "0-256")])
def test_a_range_that_cannot_be_fed_is_refused(dtype, asked, tmp_path):
    with pytest.raises(AeSearchError, match="--input-range"):
        export_encoder(model(dtype=dtype), tmp_path / "own", input_range=asked)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings(
    "ignore:Layer .* does not have a `quantize` method:UserWarning"
)  # of the layers without weights
def test_a_quantized_encoder_is_taken(tmp_path):
    encoder = model(layers.Rescaling(1 / 255))
    encoder.quantize("int8")
    check(export_encoder(encoder, tmp_path / "own"), encoder, "0-255", tolerance=5e-3)
