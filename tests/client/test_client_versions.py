"""One version for each call, and shapes that no array can have."""

import dataclasses

import grpc
import numpy as np
import pytest
from pictures import coloured_picture, encoded
from scripted_server import CARD, Script

from ae_search.client import LatentClient, wire
from ae_search.client.timing import timed_encode_file
from ae_search.errors import ConfigurationError, ImageError, ModelNotServedError, ServerAnswerError


class RollsOver(Script):
    """Serves version 3 for so many requests for latents, then version 4; each latent is its version's number."""

    def __init__(self, good):
        super().__init__()
        self.good = good

    def latents(self, pixels, version):
        with self.lock:
            self.good -= 1
            if self.good == 0:
                self.served = [4]
                self.labels = {label: 4 for label in self.labels}
        return np.full((len(pixels), 16), version, np.float32)


@pytest.fixture
def rolled(serve, connect):
    """A client of a server that rolls over after one answer."""
    return connect(serve(RollsOver(1)), max_in_flight=1)


PNG = encoded(coloured_picture(1))
CALLS = {
    "files": lambda client: client.encode_files([PNG] * 130),
    "images": lambda client: client.encode(np.zeros((600, 4, 4, 1), np.uint8)),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_roll_over_within_a_call_starts_it_anew(rolled, call):
    assert np.unique(CALLS[call](rolled)).tolist() == [4.0]


@pytest.mark.parametrize("call", CALLS)
def test_a_pinned_call_is_not_moved_to_another_version(rolled, call):
    with pytest.raises(ModelNotServedError, match="pixels version 3"):
        CALLS[call](rolled.at_version(3))


def test_bad_files_are_told_once_although_the_call_ran_twice(rolled):
    told = []
    latents = rolled.encode_files([b"text", *[PNG] * 130], on_bad=lambda at, error: told.append(at))
    assert (told, len(latents)) == ([0], 130)


@pytest.mark.parametrize("good", [1, 7, 18])
@pytest.mark.parametrize("label", [None, "stable"])
def test_a_roll_over_under_many_requests_never_mixes_two_versions(serve, connect, label, good):
    script = RollsOver(good)
    script.labels = {"stable": 3}
    client = connect(serve(script), label=label)
    latents = client.encode(np.zeros((20 * 256 - 1, 4, 4, 1), np.uint8))
    assert latents.shape == (20 * 256 - 1, 16)
    assert np.unique(latents).tolist() == [4.0]
    assert len(script.requests) <= 2 + 2 * 20


class NeverRests(RollsOver):
    """Rolls over whenever it has told its version."""

    def answer(self, request, context):
        response = super().answer(request, context)
        if request.model_spec.signature_name == "describe":
            self.served = [self.served[0] + 1]
        return response


def test_a_server_that_never_rests_gives_an_error_and_no_mixture(serve, connect):
    script = NeverRests(-1)
    client = connect(serve(script))
    with pytest.raises(ModelNotServedError):
        client.encode(np.zeros((3000, 4, 4, 1), np.uint8))
    assert len(script.asked_for("describe")) <= 4


def test_a_label_is_sent_and_an_unknown_one_named(serve, connect, script):
    script.labels = {"stable": 3}
    port = serve(script)
    client = connect(port, label="stable")
    client.encode(np.zeros((600, 4, 4, 1), np.uint8))
    assert {request.model_spec.version_label for request in script.requests} == {"stable"}
    assert not any(request.model_spec.HasField("version") for request in script.requests)
    with pytest.raises(ModelNotServedError, match=r"canary.*Unrecognized servable version label"):
        connect(port, label="canary").describe()
    with pytest.raises(ModelNotServedError, match="canary"):
        connect(port, label="canary").encode(np.zeros((1, 4, 4, 1), np.uint8))


def test_a_label_that_moves_between_two_calls_is_followed(serve, connect, script):
    script.served, script.labels = [3, 4], {"stable": 3}
    client = connect(serve(script), label="stable")
    assert client.describe().version == 3
    script.labels = {"stable": 4}
    client.encode(np.zeros((600, 4, 4, 1), np.uint8))
    assert client.describe().version == 4
    assert client.at_version(3).describe().version == 3


@pytest.mark.parametrize("version", [1, 0])
def test_version_and_label_exclude_each_other(connect, version):
    with pytest.raises(ConfigurationError, match="one of them"):
        connect(1, version=version, label="stable")


@pytest.mark.parametrize("version", [-1, 2**63, 10**30])
def test_a_version_that_no_server_can_have(connect, version):
    with pytest.raises(ConfigurationError, match="version"):
        connect(1, version=version)


def test_a_client_that_lives_long_takes_images_of_the_new_version(serve, connect, script):
    client = connect(serve(script))
    client.describe()
    script.served = [4]
    script.card = dataclasses.replace(CARD, image_shape=(2, 8, 1)).to_json()
    assert client.encode(np.zeros((5, 2, 8, 1), np.uint8)).shape == (5, 16)
    with pytest.raises(ImageError, match="Received"):
        client.encode(np.zeros((5, 4, 4, 1), np.uint8))


def test_a_timed_query_outlives_a_roll_over(serve, script):
    with LatentClient(f"127.0.0.1:{serve(script)}", "pixels", timeout_s=20) as client:
        client.describe()
        script.served = [4]
        latents, parts_s = timed_encode_file(client, PNG)
        np.testing.assert_array_equal(latents, client.encode_files([PNG]))
        assert min(parts_s) > 0


def no_default(request, context):
    if request.model_spec.signature_name == "describe" and "rows" not in request.inputs:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature: 0!=1 len({} vs {rows})")


def no_input(request, context):
    if request.model_spec.signature_name == "describe" and request.inputs:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature: 1!=0")


@pytest.mark.parametrize("refuse", [no_default, no_input])
def test_describe_on_servers_that_know_no_defaults_and_models_without_rows(client, script, refuse):
    script.refuse = refuse
    assert client.describe() == CARD
    assert client.encode(np.zeros((5, 4, 4, 1), np.uint8)).shape == (5, 16)


class Misnumbers(Script):
    """Says that version 4 answered, whichever was asked for."""

    def Predict(self, request, context):
        response = super().Predict(request, context)
        response.model_spec.version.value = 4
        return response


def test_another_version_does_not_pass_for_the_pinned_one(serve, connect):
    client = connect(serve(Misnumbers()), version=3)
    with pytest.raises(ServerAnswerError, match="asked for version 3, version 4 answered"):
        client.describe()


def float_tensor(values):
    tensor = wire.TensorProto(dtype=1, float_val=values)
    tensor.tensor_shape.dim.add(size=len(values))
    return tensor


@pytest.mark.parametrize("count", [1, 31, 32, 4095, 4096, 600_000])
def test_values_of_float_val_come_out_as_they_were_sent(count):
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    np.testing.assert_array_equal(wire.to_floats(float_tensor(values.tolist()), (count,), "latents"), values)


def test_values_of_another_type_behind_float_val_are_refused():
    tensor = float_tensor([1.0, 2.0])
    tensor.double_val.append(3.0)
    with pytest.raises(ServerAnswerError, match="float_val alone"):
        wire.to_floats(tensor, (2,), "latents")


@pytest.mark.parametrize("shape", [[1] * 100, [0, 2**62, 2**62], [0, 2**63 - 1], [2**40, 2**40, 0]])
def test_a_shape_that_no_array_can_have(shape):
    tensor = wire.TensorProto(dtype=1, float_val=[1.0] if 0 not in shape else [])
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    with pytest.raises(ServerAnswerError, match="Expected latents of shape"):
        wire.to_floats(tensor, (1, 1), "latents")
