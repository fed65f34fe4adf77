"""The table of keras.applications against Keras itself."""

import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from ae_search.errors import ConfigurationError
from ae_search.model.backbone import APPLICATIONS, load_backbone
from ae_search.model.backbone.feeding import feed


def test_every_network_of_keras_is_there():
    networks = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert APPLICATIONS.keys() == networks


def module_of(name):
    """Return the public module of a network, which has its `preprocess_input`."""
    if name.startswith("MobileNetV3"):  # the one that does not name its networks
        return keras.applications.mobilenet_v3
    modules = {key: value for key, value in vars(keras.applications).items() if inspect.ismodule(value)}
    (found,) = {key for key, value in modules.items() if hasattr(value, name) and key != "resnet50"}
    return modules[found]


@pytest.mark.parametrize("name", sorted(APPLICATIONS))
def test_networks_are_fed_what_keras_feeds_them(name):
    images = np.random.default_rng(0).random((2, 5, 4, 3), np.float32)
    image = keras.Input((5, 4, 3))
    ours = keras.Model(image, feed(image, APPLICATIONS[name].feeding))(images)
    theirs = module_of(name).preprocess_input(255.0 * images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "EfficientNetB1", "ResNet50V2"])
@pytest.mark.slow
def test_a_named_network_has_its_own_size_and_other_sizes(name):
    side_px = APPLICATIONS[name].side_px
    whole = getattr(keras.applications, name)(weights=None)
    assert whole.input_shape == (None, side_px, side_px, 3)
    backbone = load_backbone(name, weights=None)
    assert backbone.size == (side_px, side_px)
    assert load_backbone(name, size=(64, 96), weights=None).size == (64, 96)


def test_a_named_network_gives_what_keras_gives():
    keras.utils.set_random_seed(1)
    theirs = keras.applications.MobileNet(weights=None, include_top=False, pooling="avg", input_shape=(64, 64, 3))
    keras.utils.set_random_seed(1)
    backbone = load_backbone("MobileNet", size=(64, 64), weights=None)
    images = np.random.default_rng(0).random((3, 64, 64, 3), np.float32)
    expected = theirs(keras.applications.mobilenet.preprocess_input(255.0 * images), training=False)
    np.testing.assert_allclose(backbone.model(images, training=True), expected, rtol=1e-4, atol=1e-5)
    assert backbone.floats == expected.shape[1]
    assert "keras.applications" in backbone.fed


def test_a_size_that_is_too_small_is_said():
    with pytest.raises(ConfigurationError, match=r"--image-size.*at least 32"):
        load_backbone("VGG16", size=(16, 16), weights=None)


def test_an_unknown_name_is_answered_with_those_that_there_are(tmp_path):
    with pytest.raises(ConfigurationError, match="EfficientNetV2B0") as refused:
        load_backbone("EfficientNet")
    assert "Received: EfficientNet." in str(refused.value)
    with pytest.raises(ConfigurationError, match=r"takes a \.keras file"):
        load_backbone(str(tmp_path / "missing.keras"))


def test_weights_that_cannot_be_downloaded_are_said(tmp_path):
    """Nothing is in this cache of Keras, and nobody listens at this proxy."""
    code = "from ae_search.model.backbone import load_backbone; load_backbone('MobileNetV2')"
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    env = os.environ | nowhere | {"KERAS_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3", "no_proxy": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "ConfigurationError" in last
    assert "MobileNetV2 cannot be had: URL fetch failure" in last
    assert "KERAS_HOME" in last
    assert "EfficientNetV2B0" in last
    assert done.stdout == ""
