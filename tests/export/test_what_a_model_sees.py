"""One truth of a file: what a served model, the local encoder, training, the query side and a thumbnail see of it."""

import io
import os
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from turned_files import turned_files

from ae_search.data.pipeline import readable_images
from ae_search.data.sources import FolderSource
from ae_search.export import export_encoder
from ae_search.image_file import image_pixels, thumbnail
from ae_search.model_server import LocalEncoder, ModelServer

pytestmark = pytest.mark.slow

SHAPE = (48, 64, 3)
CASES = Path(os.environ.get("AE_SEARCH_DATA", "/nowhere"), "cases")
UPRIGHT = [
    *(f"exif_{turn}.jpg" for turn in range(1, 9)),
    *("exif_6_big_endian.jpg", "bmp32_reserved_zero.bmp", "truncated_by_2_bytes.jpg", "no_suffix", "whole.jpg"),
    *("saved_by_a_browser.jfif", "upright.png"),
]
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="AE_SEARCH_DATA has no cases")


@pytest.fixture(scope="module", params=["crop", "pad"])
def model(request, tmp_path_factory):
    """An export whose latents are the pixels that it sees, a server of it, and its fit."""
    base = tmp_path_factory.mktemp("export") / "pixels"
    layers = [keras.layers.Input(SHAPE), keras.layers.Flatten()]
    export_encoder(keras.Sequential(layers), base, fit=request.param, input_range="0-1")
    with ModelServer(base) as server:
        yield base, server, request.param


def by_stubs(server, data):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = server.model_name, "encode_bytes"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([data]))
    with grpc.insecure_channel(server.address) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=300)
    return tf.make_ndarray(answer.outputs["latents"]).reshape(SHAPE) * 255


def by_training(path, fit):
    source = FolderSource("one", path.parent, [path.name], [None], 0)
    (image,) = readable_images(source, SHAPE, cache="memory", fit=fit).pixels
    return image


def seen_by_all(model, path):
    """What each sees of a file of the model's aspect ratio."""
    base, server, fit = model
    data = path.read_bytes()
    small = Image.open(io.BytesIO(thumbnail(data, path.name))).convert("RGB")
    return {
        "a server": by_stubs(server, data),
        "the local encoder": LocalEncoder(base).encode_files([path]).reshape(SHAPE) * 255,
        "training": by_training(path, fit),
        "the query side": image_pixels(data, path.name, SHAPE, fit=fit),
        "a thumbnail": np.asarray(small.resize(SHAPE[1::-1])),
    }


def check_all_like(seen, expected, most):
    for who, pixels in seen.items():
        assert np.abs(pixels.astype(float) - expected).mean() < most, who
    for who in ("the local encoder", "training"):
        assert np.abs(seen[who].astype(float) - seen["a server"]).mean() < 1, who


@needs_cases
@pytest.mark.parametrize("name", UPRIGHT)
def test_all_see_the_upright_picture(name, model):
    expected = np.asarray(Image.open(CASES / "upright.png").convert("RGB"), float)
    check_all_like(seen_by_all(model, CASES / name), expected, 4)


@needs_cases
@pytest.mark.parametrize(
    ("name", "colour"), [("one_pixel.png", (255, 0, 0)), ("gif_150_frames_of_1_megapixel.gif", (0, 0, 0))]
)
def test_all_see_one_colour(name, colour, model):
    check_all_like(seen_by_all(model, CASES / name), np.broadcast_to(np.array(colour, float), SHAPE), 3)


@needs_cases
def test_the_bomb_is_refused(model):
    with pytest.raises(grpc.RpcError, match="more than 64 megapixels"):
        by_stubs(model[1], (CASES / "bomb_144_megapixels.png").read_bytes())


@pytest.mark.parametrize("name", ["jpeg 6 big", "late png 5 little", "webp 8 big", "png 7 big"])
def test_all_turn_what_is_stored_turned(name, model, tmp_path):
    (tmp_path / "file.png").write_bytes(turned_files()[name])
    expected = np.asarray(Image.open(io.BytesIO(turned_files()["png 1 big"])), float)
    check_all_like(seen_by_all(model, tmp_path / "file.png"), expected, 4)


def test_the_card_says_what_becomes_of_a_file(model):
    card = LocalEncoder(model[0]).describe()
    assert (card.fit, card.preprocessing_version) == (model[2], 3)
