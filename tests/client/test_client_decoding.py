"""Decoding over the wire: a server that takes fewer rows, moves on, or answers what is no image."""

from dataclasses import replace

import grpc
import numpy as np
import pytest
from both_clients import KINDS
from scripted_server import CARD, FLOAT, Script, start
from tensorflow_serving.apis import predict_pb2

from ae_search.client import decoding
from ae_search.contract import ModelCard
from ae_search.errors import ConfigurationError, ModelNotServedError, ServerAnswerError

ROWS = 40


class Decoding(Script):
    """Its images are the latents, as bytes or as floats; at most `most` at once."""

    def __init__(self):
        super().__init__()
        self.card = replace(CARD, decodes=True).to_json()
        self.most, self.version, self.name = 10**6, 3, "images"
        self.rows = []

    def answer(self, request, context):
        if request.model_spec.signature_name != "decode":
            return super().answer(request, context)
        import tensorflow as tf

        latents = tf.make_ndarray(request.inputs["latents"])
        if len(latents) > self.most:
            text = f"Task size {len(latents)} is larger than maximum input batch size {self.most}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        self.rows.append(len(latents))
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = "pixels", self.version
        tensor = response.outputs[self.name]
        tensor.dtype = FLOAT
        for size in (len(latents), 4, 4, 1):
            tensor.tensor_shape.dim.add(size=size)
        if self.as_content:
            tensor.tensor_content = latents.tobytes()
        else:
            tensor.float_val.extend(latents.ravel().tolist())
        if self.spoil:
            self.spoil(response)
        return response


@pytest.fixture
def script():
    return Decoding()


@pytest.fixture(params=KINDS)
def client(request, script):
    server, port = start(script)
    made = KINDS[request.param](f"127.0.0.1:{port}", "pixels", timeout_s=30)
    yield made
    made.end()
    server.stop(None).wait()


@pytest.fixture
def latents():
    return np.random.default_rng(0).random((ROWS, 16), np.float32)


@pytest.mark.parametrize("as_content", [False, True])
def test_images_come_in_order_by_requests_of_bounded_answers(client, script, latents, as_content, monkeypatch):
    script.as_content = as_content
    monkeypatch.setattr(decoding, "MAX_PICTURE_BYTES", 16 * 4 * 16)
    np.testing.assert_array_equal(client.decode(latents), latents.reshape(ROWS, 4, 4, 1))
    assert script.rows == [16, 16, 8]


@pytest.mark.parametrize("most", [1, 3, 16])
def test_a_server_that_takes_fewer_rows_is_sent_fewer(client, script, latents, most):
    script.most = most
    np.testing.assert_array_equal(client.decode(latents), latents.reshape(ROWS, 4, 4, 1))
    assert max(script.rows) == most


def _other_shape(response):
    del response.outputs["images"].tensor_shape.dim[3]


def _not_a_number(response):
    response.outputs["images"].float_val[0] = float("nan")


def _too_bright(response):
    response.outputs["images"].float_val[0] = 1.5


SPOILT = {
    "shape": (_other_shape, "Expected images of shape"),
    "NaN": (_not_a_number, r"images in \[0, 1\]"),
    "values": (_too_bright, r"images in \[0, 1\]"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_no_image_is_refused(client, script, latents, how):
    script.spoil, text = SPOILT[how]
    with pytest.raises(ServerAnswerError, match=text):
        client.decode(latents)


def test_an_answer_without_images_is_refused(client, script, latents):
    script.name = "pictures"
    with pytest.raises(ServerAnswerError, match="without 'images'"):
        client.decode(latents)


def test_another_version_is_not_taken_for_the_one_that_was_asked(client, script, latents):
    script.version = 4
    with pytest.raises(ModelNotServedError, match="version 4 answered"):
        client.decode(latents)
    with pytest.raises(ServerAnswerError, match="version 4 answered"):
        client.at_version(3).decode(latents)


def test_a_refusal_of_latents_that_fit_is_the_servers_fault(client, script, latents):
    script.most = 0
    with pytest.raises(ServerAnswerError, match="takes fewer at once|larger than maximum"):
        client.decode(latents[:1])


def test_a_decoder_that_comes_with_the_next_version_is_found(client, script, latents):
    script.card = CARD.to_json()
    with pytest.raises(ConfigurationError, match="without a decoder"):
        client.decode(latents)
    script.card = replace(CARD, decodes=True).to_json()
    assert client.decode(latents).shape == (ROWS, 4, 4, 1)


def test_cards_of_before_do_not_decode():
    old = ModelCard.from_json(CARD.to_json().replace('"decodes": false, ', ""))
    assert old == CARD and not old.decodes
    with pytest.raises(ServerAnswerError, match="decodes"):
        ModelCard.from_json(CARD.to_json().replace('"decodes": false', '"decodes": 1'))
