"""A server that is an enemy of `PredictClient`: what its tensors and its metadata cost whoever asks."""

from concurrent import futures

import grpc
import pytest
from bounded import run_bounded

from ae_search.client import wire

MIB = 2**20
ASK = """
import sys
from ae_search import PredictClient
from ae_search.errors import ServerAnswerError
with PredictClient(sys.argv[1], "m", timeout_s=60) as client:
    try:
        getattr(client, sys.argv[2])(*([{"x": [1.0]}] if sys.argv[2] == "predict" else []))
        print("answered")
    except ServerAnswerError as error:
        print("refused", str(error)[:500])
"""


def varint(number):
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def outputs(tensor):
    return field(1, field(1, b"x") + field(2, tensor))


def shape(*sizes):
    return field(2, b"".join(field(2, b"\x08" + varint(size)) for size in sizes))


DOUBLE, INT64, STRING, VARIANT = b"\x08\x02", b"\x08\x09", b"\x08\x07", b"\x08\x15"
TENSORS = {
    "outputs of nothing": b"\x0a\x00" * (30 * MIB),
    "tensors of nothing": outputs(b"\x12\x00" * (30 * MIB)),
    "variants of nothing": outputs(VARIANT + b"\x7a\x00" * (30 * MIB)),
    "unknown fields": outputs(b"\xf8\x01\x00" * (20 * MIB)),
    "strings of nothing": outputs(STRING + shape(30 * MIB) + b"\x42\x00" * (30 * MIB)),
    "small outputs": outputs(b"\x22\x00" * 30) * (500 * 1024),
    "axes of nothing": outputs(field(2, b"\x12\x00" * (30 * MIB))),
    "a value for many": outputs(DOUBLE + shape(2**40) + field(6, b"\0" * 8)) * 100,
    "values that are not there": b"".join(
        field(1, field(1, b"%d" % at) + field(2, DOUBLE + shape(7 * MIB))) for at in range(50)
    ),
    "strings as content": outputs(STRING + shape(60 * MIB) + field(4, b"\x00" * (59 * MIB))),
    "a string without an end": outputs(STRING + shape(1) + field(4, b"\xff" * (59 * MIB))),
}


def string_def_map(text):
    packed = field(1, b"type.googleapis.com/tensorflow.serving.SignatureDefMap") + field(2, text)
    return field(2, field(1, b"signature_def") + field(2, packed))


METADATA = {
    "signatures of nothing": string_def_map(b"\x0a\x00" * (30 * MIB)),
    "metadata of nothing": b"\x12\x00" * (30 * MIB),
    "deep": string_def_map(b"\x0a\x7f" * 200_000),
}


class Enemy(grpc.GenericRpcHandler):
    def __init__(self, answer):
        self._answer = answer

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda data, context: self._answer)


@pytest.fixture
def ask(tmp_path):
    """Ask an enemy in a process of its own, within bounds; return what became of it."""
    started = []

    def run(answer, verb):
        server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
        server.add_generic_rpc_handlers([Enemy(answer)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append(server)
        ended = run_bounded(["python", "-c", ASK, f"127.0.0.1:{port}", verb], folder=tmp_path, timeout_s=240)
        assert ended.code == 0, ended.stderr
        assert ended.peak_mib < 900 and ended.seconds < 90, (ended.peak_mib, ended.seconds)
        return ended.stdout

    yield run
    for server in started:
        server.stop(None).wait()


def test_a_good_answer_is_one(ask):
    """The bounds hold for a good server, too, or they would say nothing."""
    assert ask(outputs(DOUBLE + shape(7 * MIB) + field(4, b"\0" * (56 * MIB))), "predict") == "answered\n"


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_would_cost_too_much(ask, what):
    told = ask(TENSORS[what], "predict")
    assert told.startswith("refused"), told
    assert len(told) < 600


@pytest.mark.parametrize("what", METADATA)
def test_metadata_that_would_cost_too_much(ask, what):
    assert ask(METADATA[what], "metadata").startswith("refused")


@pytest.mark.parametrize("length", [0, 1, 200])
def test_many_strings_are_values(length):
    string = b"\x42" + varint(length) + b"a" * length
    many = outputs(STRING + string * 900_000)
    assert len(many) > 1.5 * wire.MAX_SMALL_ANSWER_BYTES
    found = wire.parsed(wire.PredictResponse, many, "t", values=wire.ANY_VALUES)
    assert len(found.outputs["x"].string_val) == 900_000
