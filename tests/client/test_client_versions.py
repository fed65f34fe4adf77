"""One version for each call, and shapes that no array can have."""

import numpy as np
import pytest
import scripted_server
from pictures import coloured_picture, encoded
from scripted_server import Script

from ae_search.client import LatentClient, wire
from ae_search.errors import ModelNotServedError, ServerAnswerError


class RollsOver(Script):
    """Serves version 3 for so many requests for latents, then version 4; each latent is its version's number."""

    def __init__(self, good):
        super().__init__()
        self.good = good
        self.spoil = self._mark

    def _mark(self, response):
        tensor = response.outputs["latents"]
        tensor.float_val[:] = [response.model_spec.version.value] * len(tensor.float_val)
        self.good -= 1
        if self.good == 0:
            self.served = [4]


@pytest.fixture
def rolled():
    """A client of a server that rolls over after one answer."""
    server, port = scripted_server.start(RollsOver(1))
    with LatentClient(f"127.0.0.1:{port}", "pixels", timeout_s=20, max_in_flight=1) as client:
        yield client
    server.stop(None).wait()


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


class Misnumbers(Script):
    """Says that version 4 answered, whichever was asked for."""

    def Predict(self, request, context):
        response = super().Predict(request, context)
        response.model_spec.version.value = 4
        return response


def test_another_version_does_not_pass_for_the_pinned_one():
    server, port = scripted_server.start(Misnumbers())
    with LatentClient(f"127.0.0.1:{port}", "pixels", version=3) as client:
        with pytest.raises(ServerAnswerError, match="asked for version 3, version 4 answered"):
            client.describe()
    server.stop(None).wait()


@pytest.mark.parametrize("shape", [[1] * 100, [0, 2**62, 2**62], [0, 2**63 - 1], [2**40, 2**40, 0]])
def test_a_shape_that_no_array_can_have(shape):
    tensor = wire.TensorProto(dtype=1, float_val=[1.0] if 0 not in shape else [])
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    with pytest.raises(ServerAnswerError, match="usable shape"):
        wire.to_floats(tensor)
