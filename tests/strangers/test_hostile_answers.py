"""A model server that is an enemy: what its cards, states and latents cost whoever asks it."""

import json
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from bounded import run_bounded

from ae_search.client import LatentClient, wire
from ae_search.contract import MAX_CARD_BYTES, MAX_IMAGE_VALUES, MAX_LATENT_DIM, MAX_NESTING, ModelCard
from ae_search.errors import ConfigurationError, ServerAnswerError
from ae_search.export import export_encoder

CARD = ModelCard(name="m", version=3, fingerprint="cd" * 32, image_shape=(4, 4, 1), latent_dim=16)
MIB = 2**20


def varint(number):
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number, content):
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def card_answer(text, version=3):
    response = wire.PredictResponse()
    response.model_spec.version.value = version
    response.outputs["model_card"].dtype = wire.DT_STRING
    response.outputs["model_card"].string_val.append(text)
    return response.SerializeToString()


def status_answer(*statuses):
    response = wire.GetModelStatusResponse()
    for version, state, error in statuses or [(3, 30, "")]:
        response.model_version_status.add(version=version, state=state).status.error_message = error
    return response.SerializeToString()


def latents_answer(rows, dim):
    response = wire.PredictResponse()
    response.model_spec.version.value = 3
    tensor = response.outputs["latents"]
    tensor.dtype = wire.DT_FLOAT
    for size in (rows, dim):
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = np.ones((rows, dim), "<f4").tobytes()
    return response.SerializeToString()


class Enemy(grpc.GenericRpcHandler):
    """Answers a card, the states of the versions and latents, each with the bytes that it was given."""

    def __init__(self, card=None, status=None, latents=None):
        self._card, self._status = card or card_answer(CARD.to_json().encode()), status or status_answer()
        self._latents = latents
        self.asked = 0

    def service(self, details):
        def answer(data, context):
            if details.method == wire.GET_MODEL_STATUS:
                return self._status
            request = wire.PredictRequest.FromString(data)
            if request.model_spec.signature_name == "describe":
                return self._card
            self.asked += 1
            if callable(self._latents):
                return self._latents(context)
            rows = next(iter(request.inputs.values())).tensor_shape.dim[0].size
            return self._latents or latents_answer(rows, 16)

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def enemy():
    """Start an enemy; return its address."""
    started = []

    def start(**answers):
        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
        server.add_generic_rpc_handlers([Enemy(**answers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in started:
        server.stop(None).wait()


def doctor(address, folder, *, timeout_s=5, peak_mib=900, seconds=60):
    """Run doctor on a server within bounds; return what it found, by check, and the seconds that it took."""
    arguments = ["doctor", "--server", address, "--model-name", "m", "--timeout", timeout_s, "--json"]
    ended = run_bounded(["ae-search", *arguments], folder=folder, timeout_s=240)
    assert "Traceback" not in ended.stderr, ended.stderr
    assert ended.peak_mib < peak_mib and ended.seconds < seconds, (ended.peak_mib, ended.seconds)
    return {one["check"]: one for one in json.loads(ended.stdout)}


def test_doctor_on_a_server_that_is_none(enemy, tmp_path):
    """The bounds hold for a good server, too, or they would say nothing."""
    findings = doctor(enemy(), tmp_path)
    assert findings["version"]["verdict"] == findings["model card"]["verdict"] == "ok"


def card_with(**fields):
    """A card whose fields are other JSON texts."""
    card = {name: json.dumps(value) for name, value in json.loads(CARD.to_json()).items()} | fields
    return ("{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in card.items()) + "}").encode()


def nested(levels, inner="1"):
    return '{"a": ' * levels + inner + "}" * levels


CARDS = {
    "sides of ten thousands": card_with(image_shape="[30000, 30000, 3]"),
    "sides whose product overflows": card_with(image_shape="[4294967296, 4294967296, 1]"),
    "side of 2^62": card_with(image_shape=f"[{2**62}, 4, 1]"),
    "one value too many": card_with(image_shape=f"[{MAX_IMAGE_VALUES + 1}, 1, 1]"),
    "no side": card_with(image_shape="[0, 4, 1]"),
    "side below none": card_with(image_shape="[-4, -4, 1]"),
    "text for a side": card_with(image_shape='["28", 4, 1]'),
    "half a side": card_with(image_shape="[4.0, 4, 1]"),
    "true side": card_with(image_shape="[true, 4, 1]"),
    "true channel": card_with(image_shape="[4, 4, true]"),
    "text for a shape": card_with(image_shape='"441"'),
    "object for a shape": card_with(image_shape='{"4": 1, "5": 1, "1": 1}'),
    "four sides": card_with(image_shape="[4, 4, 1, 1]"),
    "two channels": card_with(image_shape="[4, 4, 2]"),
    "no latent": card_with(latent_dim="0"),
    "huge latent": card_with(latent_dim=str(MAX_LATENT_DIM + 1)),
    "text for a latent": card_with(latent_dim='"16"'),
    "true latent": card_with(latent_dim="true"),
    "version zero": card_with(version="0"),
    "version of 2^63": card_with(version=str(2**63)),
    "true version": card_with(version="true"),
    "list for a metric": card_with(metric='["angular"]'),
    "object for a metric": card_with(metric="{}"),
    "unknown metric": card_with(metric='"cosine"'),
    "true format": card_with(format="true"),
    "text for a format": card_with(format='"1"'),
    "format below one": card_with(format="-1"),
    "half a format": card_with(format="0.5"),
    "format that is no number": card_with(format="NaN"),
    "newer format": card_with(format="2"),
    "list for a format": card_with(format="[]"),
    "number for a name": card_with(name="5"),
    "empty name": card_with(name='""'),
    "lines in a name": card_with(name='"m\\nversion 9"'),
    "terminal escapes in a name": card_with(name='"\\u001b[2J"'),
    "turned text in a name": card_with(name='"\\u202egnp"'),
    "long name": card_with(name=json.dumps("m" * 256)),
    "list for a fingerprint": card_with(fingerprint="[]"),
    "empty fingerprint": card_with(fingerprint='""'),
    "long fingerprint": card_with(fingerprint=json.dumps("c" * 1000)),
    "escapes in a fingerprint": card_with(fingerprint='"\\u001b[2J"'),
    "list for a Keras": card_with(keras="[]"),
    "long TensorFlow": card_with(tensorflow=json.dumps("2" * 1000)),
    "list for data": card_with(data="[]"),
    "text for a training": card_with(training='"long"'),
    "deep data": card_with(data=nested(MAX_NESTING)),
    "deep lists": card_with(training='{"a": ' + "[" * 900 + "]" * 900 + "}"),
    "deeper than Python": card_with(data=nested(100_000)),
    "a key twice": card_with()[:-1] + b', "version": 3}',
    "a key twice, deep down": card_with(data='{"a": {"b": 1, "b": 1}}'),
    "half a character": card_with(data='{"a": "\\ud800"}'),
    "half a character for a key": card_with(training='{"\\udfff": 1}'),
    "infinite figure": card_with(training='{"loss": 1e999}'),
    "figure that is no number": card_with(training='{"loss": NaN}'),
    "endless number": card_with(training='{"loss": ' + "9" * 100_000 + "}"),
    "a megabyte": card_with(data=json.dumps({"a": "x" * MAX_CARD_BYTES})),
    "no object": b"[]",
    "nothing": b"null",
    "a text": b'"card"',
    "no JSON": b"\0" * 100,
}


@pytest.mark.parametrize("name", CARDS)
def test_cards_that_cannot_be(enemy, name):
    with LatentClient(enemy(card=card_answer(CARDS[name])), "m", timeout_s=20) as client:
        with pytest.raises(ServerAnswerError) as caught:
            client.describe()
    assert "odel card" in str(caught.value) and len(str(caught.value)) < 500 and str(caught.value).isprintable()


GOOD = {
    "as it is": card_with(),
    "largest image": card_with(image_shape=f"[{MAX_IMAGE_VALUES}, 1, 1]", latent_dim=str(MAX_LATENT_DIM)),
    "another script": card_with(name='"m\\u00f6bel \\u732b"'),
    "nested figures": card_with(data=nested(MAX_NESTING - 1), training='{"loss": 0.5, "files": [["a", null]]}'),
    "newest version": card_with(version=str(2**63 - 1)),
    "a field more": card_with(licence='"MIT"'),
}


@pytest.mark.parametrize("name", GOOD)
def test_cards_that_can_be(name):
    card = ModelCard.from_json(GOOD[name])
    assert ModelCard.from_json(card.to_json()) == card == ModelCard.from_json(GOOD[name].decode())


@pytest.mark.parametrize("version", [2**63 - 1, -1, -(2**63)])
def test_a_version_that_nobody_asked_for(enemy, version):
    with LatentClient(enemy(card=card_answer(card_with(), version)), "m", version=3, timeout_s=20) as client:
        with pytest.raises(ServerAnswerError, match="version"):
            client.describe()


def outputs(content, key=b"latents"):
    return field(1, field(1, key) + field(2, content))


def bulk(size):
    return np.ones(size // 4, "<f4").tobytes()


SPEC = field(2, b"\x12\x02\x08\x03")  # model_spec.version 3
FLOOD = 60 * MIB
LATENTS = {
    "dimensions": lambda: outputs(field(2, field(2, b"\x12\x00" * (FLOOD // 2)))) + SPEC,
    "strings": lambda: outputs(b"\x42\x00" * (FLOOD // 2)) + SPEC,
    "variants": lambda: outputs(b"\x7a\x00" * (FLOOD // 2)) + SPEC,
    "resources": lambda: outputs(b"\x72\x00" * (FLOOD // 2)) + SPEC,
    "integers": lambda: outputs(field(7, b"\x01" * FLOOD)) + SPEC,
    "outputs": lambda: b"\x0a\x00" * (FLOOD // 2),
    "outputs within outputs": lambda: outputs(b"\x0a\x00" * (FLOOD // 2)) + SPEC,
    "unknown fields": lambda: outputs(b"\xf8\x01\x00" * (FLOOD // 3)) + SPEC,
    "beside floats": lambda: outputs(b"\x42\x00" * (10 * MIB) + field(5, bulk(30 * MIB))) + SPEC,
    "endless number": lambda: b"\xff" * FLOOD,
    "length beyond the end": lambda: b"\x0a" + b"\xff" * 9 + b"\x01" + b"\x12\x00" * (FLOOD // 2),
}
CHILD = """
import sys, time
import numpy as np
from ae_search.client import LatentClient
from ae_search.errors import ServerAnswerError
with LatentClient(sys.argv[1], "m", timeout_s=30) as client:
    call = getattr(client, sys.argv[2], lambda: client.encode(np.zeros((5, 4, 4, 1), np.uint8)))
    if sys.argv[2] == "latents":
        client.describe()
    began = time.monotonic()
    try:
        call()
    except ServerAnswerError as error:
        print(len(str(error)), time.monotonic() - began)
"""


def bounded_child(address, call, folder, peak_mib):
    """Let a client ask within bounds; return the seconds of its call, which was told a short error."""
    ended = run_bounded(["python", "-c", CHILD, address, call], folder=folder, timeout_s=120)
    assert ended.code == 0, ended.stderr
    length, seconds = ended.stdout.split()
    assert int(length) < 500
    assert ended.peak_mib < peak_mib, ended.peak_mib
    return float(seconds)


@pytest.mark.parametrize("flood", LATENTS)
def test_a_flood_in_place_of_latents(enemy, tmp_path, flood):
    """gRPC holds the 60 MiB up to three times; parsed, the floods take from 0.6 to 5 GB."""
    assert bounded_child(enemy(latents=LATENTS[flood]()), "latents", tmp_path, peak_mib=500) < 20


CARD_FLOODS = {
    "a card of 60 MiB": lambda: card_answer(b" " * FLOOD + card_with()),
    "floats beside it": lambda: outputs(field(5, bulk(FLOOD)), b"other") + card_answer(card_with()),
    "a card as content": lambda: outputs(b"\x08\x07" + field(4, varint(FLOOD) + b" " * FLOOD), b"model_card") + SPEC,
    "outputs": lambda: LATENTS["outputs"](),
}


@pytest.mark.parametrize("flood", CARD_FLOODS)
def test_a_flood_in_place_of_a_card(enemy, tmp_path, flood):
    assert bounded_child(enemy(card=CARD_FLOODS[flood]()), "describe", tmp_path, peak_mib=500) < 20


STATUS_FLOODS = {
    "empty ones": lambda: b"\x0a\x00" * (FLOOD // 2),
    "a megabyte of empty ones": lambda: b"\x0a\x00" * (MIB // 2),
    "one error": lambda: status_answer((3, 30, "x" * FLOOD)),
    "unknown fields": lambda: b"\x78\x01" * (FLOOD // 2),
}


@pytest.mark.parametrize("flood", STATUS_FLOODS)
def test_a_flood_of_states(enemy, tmp_path, flood):
    assert bounded_child(enemy(status=STATUS_FLOODS[flood]()), "status", tmp_path, peak_mib=500) < 20


def test_errors_of_versions_are_kept_short(enemy):
    with LatentClient(enemy(status=status_answer((3, 77, "x" * 500_000))), "m", timeout_s=20) as client:
        (status,) = client.status()
    assert (status.version, status.state, len(status.error)) == (3, "", 1000)


def test_doctor_lists_a_few_versions(enemy, tmp_path):
    told = doctor(enemy(status=status_answer(*((v, 30, "") for v in range(3000)))), tmp_path)["version"]["told"]
    assert told.endswith("19 AVAILABLE, and 2980 more")


def test_doctor_on_the_flood_of_states(enemy, tmp_path):
    findings = doctor(enemy(status=STATUS_FLOODS["empty ones"]()), tmp_path)
    assert "GetModelStatus" in findings["model"]["told"]


@pytest.mark.parametrize("shape", ["[30000, 30000, 1]", "[30000, 30000, 3]", f"[{2**62}, {2**62}, 3]"])
def test_doctor_on_a_card_of_a_huge_image(enemy, tmp_path, shape):
    findings = doctor(enemy(card=card_answer(card_with(image_shape=shape))), tmp_path)
    assert findings["model card"]["verdict"] == "wrong" and "image_shape" in findings["model card"]["told"]


def test_doctor_on_the_largest_image_that_a_card_may_have(enemy, tmp_path):
    largest = card_answer(card_with(image_shape="[4096, 4096, 1]"))
    findings = doctor(enemy(card=largest, latents=latents_answer(1, 16)), tmp_path, timeout_s=20, peak_mib=1200)
    assert findings["model card"]["verdict"] == "ok"


def test_doctor_asks_no_longer_than_it_may(enemy, tmp_path):
    """Each answer comes just in time, and a request for many images is refused but for one."""

    def just_in_time(context):
        time.sleep(0.8)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Task size 256 is larger than maximum input batch size 1")

    findings = doctor(enemy(latents=just_in_time), tmp_path, timeout_s=1)
    assert findings["signatures"]["verdict"] == findings["batch size"]["verdict"] == "wrong"


def test_doctor_measures_no_longer_than_it_may(enemy, tmp_path):
    def slow(context):
        time.sleep(0.6)
        return latents_answer(1, 16)

    assert "latency" in doctor(enemy(latents=slow), tmp_path, timeout_s=2)


def with_both(dim=16):
    response = wire.PredictResponse.FromString(latents_answer(5, dim))
    response.outputs["latents"].float_val.extend([2.0] * 5 * dim)
    return response.SerializeToString()


def with_shape(*sizes):
    response = wire.PredictResponse.FromString(latents_answer(5, 16))
    del response.outputs["latents"].tensor_shape.dim[:]
    for size in sizes:
        response.outputs["latents"].tensor_shape.dim.add(size=size)
    return response.SerializeToString()


WRONG = {
    "floats twice": with_both(),
    "product that overflows": with_shape(2**32, 2**32),
    "sides of the same product": with_shape(16, 5),
    "sides below none": with_shape(-5, -16),
    "side unknown": with_shape(5, -1),
    "largest sides": with_shape(2**63 - 1, 2**63 - 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_latents_that_are_not_what_their_shape_says(enemy, name):
    with LatentClient(enemy(latents=WRONG[name]), "m", timeout_s=20) as client:
        with pytest.raises(ServerAnswerError):
            client.encode(np.zeros((5, 4, 4, 1), np.uint8))


def test_a_promise_of_huge_latents_costs_nothing(enemy):
    card = card_answer(card_with(latent_dim=str(MAX_LATENT_DIM)))
    with LatentClient(enemy(card=card), "m", timeout_s=20) as client:
        with pytest.raises(ServerAnswerError, match="Expected latents of shape"):
            client.encode(np.zeros((5, 4, 4, 1), np.uint8))
        assert client.encode(np.zeros((0, 4, 4, 1), np.uint8)).shape == (0, MAX_LATENT_DIM)


def test_large_answers_of_a_good_server_are_taken(enemy):
    rows, dim = 200, 16_384  # 12.5 MiB
    card = card_answer(card_with(latent_dim=str(dim)))
    as_values = wire.PredictResponse.FromString(latents_answer(rows, dim))
    as_values.outputs["latents"].tensor_content = b""
    as_values.outputs["latents"].float_val.extend(np.ones(rows * dim, np.float32))
    for answer in (latents_answer(rows, dim), as_values.SerializeToString()):
        with LatentClient(enemy(card=card, latents=answer), "m", timeout_s=60) as client:
            assert client.encode(np.zeros((rows, 4, 4, 1), np.uint8)).sum() == rows * dim


def test_no_export_says_what_no_client_would_take(tmp_path):
    import keras

    image = keras.Input((None, None, 3))
    encoder = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    with pytest.raises(ConfigurationError, match="Images may have 16777216 values"):
        export_encoder(encoder, tmp_path / "export" / "m", image_shape=(4096, 4096, 3))
