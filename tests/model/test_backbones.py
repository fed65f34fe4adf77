"""Backbones from files: what is taken, what is refused, what they are fed, and which of their blocks are trained."""

import keras
import numpy as np
import pytest
from keras import layers
from small_backbones import convolutions, saved

from ae_search.errors import ConfigurationError
from ae_search.model.backbone import load_backbone
from ae_search.model.backbone.blocks import blocks_of, thaw

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)


def features_of(path, **options):
    backbone = load_backbone(path, **options)
    return np.asarray(backbone.model(IMAGES))


@pytest.mark.parametrize("pooled", [False, True])
def test_maps_are_pooled_and_vectors_are_taken(tmp_path, pooled):
    network = convolutions(pooled=pooled)
    backbone = load_backbone(saved(network, tmp_path / "b.keras"))
    expected = np.asarray(network(255.0 * IMAGES, training=False))
    np.testing.assert_allclose(
        backbone.model(IMAGES, training=True), expected if pooled else expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5
    )
    assert (backbone.size, backbone.floats, backbone.feeding) == ((32, 32), 16, "0-255")
    assert backbone.fed == "RGB in 0-255, as its first layers want it"


def test_a_range_that_cannot_be_known_is_asked_for(tmp_path):
    network = convolutions(scaled=False)
    path = saved(network, tmp_path / "b.keras")
    with pytest.raises(ConfigurationError, match=r"--input-range: 0-1, 0-255, -1-1"):
        load_backbone(path)
    for asked, values in (("0-1", IMAGES), ("0-255", 255 * IMAGES), ("-1-1", 2 * IMAGES - 1)):
        expected = np.asarray(network(values, training=False)).mean(axis=(1, 2))
        np.testing.assert_allclose(features_of(path, input_range=asked), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigurationError, match="must be one of 0-1"):
        load_backbone(path, input_range="0-2")


def test_another_range_than_the_layers_want_is_told(tmp_path):
    backbone = load_backbone(saved(convolutions(), tmp_path / "b.keras"), input_range="-1-1")
    assert "though its first layers look as if they want 0-255" in backbone.fed


def test_whole_numbers_are_fed_rounded(tmp_path):
    network = convolutions(dtype="uint8")
    path = saved(network, tmp_path / "b.keras")
    expected = np.asarray(network(np.rint(255 * IMAGES).astype(np.uint8), training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(features_of(path), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigurationError, match="whole numbers"):
        load_backbone(path, input_range="0-1")


def test_the_range_of_a_name_is_known():
    with pytest.raises(ConfigurationError, match="is known"):
        load_backbone("MobileNet", input_range="0-1", weights=None)


def two_inputs():
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([first, second], layers.Flatten()(layers.Add()([first, second])))


def two_outputs():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, [layers.Flatten()(image), layers.GlobalAveragePooling2D()(image)])


def sequence():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Reshape((8, 24))(image))


def fixed_batch():
    image = keras.Input((8, 8, 3), batch_size=2)
    return keras.Model(image, layers.Flatten()(image))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (two_inputs, "2 inputs"),
        (two_outputs, "2 outputs"),
        (sequence, r"vectors \[n, f\], or maps"),
        (fixed_batch, "any number of them"),
        (lambda: convolutions(channels=1), r"in colour \[n, h, w, 3\]"),
    ],
    ids=["two-inputs", "two-outputs", "sequence", "fixed-batch", "grey"],
)
def test_what_is_no_backbone_is_refused(tmp_path, make, text):
    with pytest.raises(ConfigurationError, match=text):
        load_backbone(saved(make(), tmp_path / "b.keras"), input_range="0-1")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "b.keras").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(ConfigurationError, match="cannot be loaded by Keras"):
        load_backbone(str(tmp_path / "b.keras"))
    (tmp_path / "b.h5").write_bytes(b"old")
    with pytest.raises(ConfigurationError, match=r"takes a \.keras file"):
        load_backbone(str(tmp_path / "b.h5"))


def test_code_in_a_file_is_not_run(tmp_path):
    image = keras.Input((8, 8, 3))
    path = saved(keras.Model(image, layers.Lambda(lambda x: x * 2.0)(image)), tmp_path / "b.keras")
    with pytest.raises(ConfigurationError, match="never run from a file"):
        load_backbone(path)


def test_sizes_are_the_backbones_or_those_that_it_leaves_open(tmp_path):
    fixed = saved(convolutions(), tmp_path / "fixed.keras")
    assert load_backbone(fixed, size=(48, 48)).size == (32, 32)
    is_open = saved(convolutions(side_px=None), tmp_path / "open.keras")
    with pytest.raises(ConfigurationError, match="give --image-size"):
        load_backbone(is_open)
    assert load_backbone(is_open, size=(48, 40)).size == (48, 40)


def test_the_digest_is_that_of_the_file(tmp_path):
    first = load_backbone(saved(convolutions(), tmp_path / "first.keras"))
    copy = tmp_path / "copy.keras"
    copy.write_bytes((tmp_path / "first.keras").read_bytes())
    assert load_backbone(str(copy)).digest == first.digest
    other = convolutions()
    other.get_layer("conv_1").bias.assign(np.ones(16))
    assert load_backbone(saved(other, tmp_path / "other.keras")).digest != first.digest


def names_of(blocks):
    return [[layer.name for layer in block] for block in blocks]


def test_blocks_are_convolutions_with_what_follows(tmp_path):
    expected = [["conv_0", "norm_0"], ["conv_1", "norm_1"]]
    assert names_of(blocks_of(convolutions())) == expected
    # In a model within a model, too, as a loaded one is.
    assert names_of(blocks_of(load_backbone(saved(convolutions(), tmp_path / "b.keras")).model)) == expected


def test_a_residual_block_is_one_block():
    image = keras.Input((8, 8, 4))
    x = image
    for at in range(3):
        inner = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name=f"first_{at}")(x))
        x = layers.Add()([x, layers.Conv2D(4, 3, padding="same", name=f"second_{at}")(inner)])
    network = keras.Model(image, layers.Conv2D(8, 1, name="last")(x))
    assert names_of(blocks_of(network)) == [*([f"first_{at}", f"second_{at}"] for at in range(3)), ["last"]]


def test_the_last_blocks_are_thawed_and_no_others(tmp_path):
    backbone = load_backbone(saved(convolutions(), tmp_path / "b.keras"))
    thawed = thaw(backbone.model, 1)
    assert (thawed.blocks, thawed.of, thawed.first) == (1, 2, "conv_1")
    trained = {weight.path.split("/")[-2] for weight in backbone.model.trainable_weights}
    # The normalisation keeps its statistics, which the images of a training would spoil.
    assert trained == {"conv_1"}
    assert thawed.weights == sum(int(np.prod(weight.shape)) for weight in backbone.model.trainable_weights)
    assert thaw(backbone.model, 2).first == "conv_0"
    assert len(backbone.model.trainable_weights) == 4
    with pytest.raises(ConfigurationError, match="1 to 2"):
        thaw(backbone.model, 3)


@pytest.mark.parametrize(
    ("name", "blocks", "last"),
    [
        ("MobileNetV2", 32, "Conv_1"),
        ("ResNet50V2", 17, "conv5_block3"),
        ("VGG16", 13, "block5_conv3"),
    ],
)
def test_blocks_of_known_networks(name, blocks, last):
    backbone = load_backbone(name, size=(64, 64), weights=None)
    found = names_of(blocks_of(backbone.model))
    assert len(found) == blocks
    assert found[-1][0].startswith(last)
