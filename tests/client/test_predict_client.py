"""Any model and any tensor through PredictClient and AsyncPredictClient; TensorFlow itself is the oracle."""

import asyncio
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
import tensor_server
import tensorflow as tf
from both_clients import PREDICT_KINDS
from tensorflow.core.framework import tensor_pb2

from ae_search.client import AsyncPredictClient, LatentClient, PredictClient, Signature, TensorSpec, VersionState, wire
from ae_search.client import tensors as client_tensors
from ae_search.errors import (
    ConfigurationError,
    ModelNotServedError,
    ServerAnswerError,
    ServerUnavailableError,
)
from ae_search.model_server import ModelServer

Code = grpc.StatusCode
NUMBERS = [
    np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64,
    np.uint8, np.uint16, np.uint32, np.uint64, np.bool_, np.complex64, np.complex128,
]  # fmt: skip
SHAPES = [(), (0,), (5,), (2, 3), (2, 0, 3), (1,) * 8]
FIELDS = {
    "float16": "half_val", "bfloat16": "half_val", "float32": "float_val", "float64": "double_val",
    "int64": "int64_val", "bool": "bool_val", "uint32": "uint32_val", "uint64": "uint64_val",
    "complex64": "scomplex_val", "complex128": "dcomplex_val",
}  # fmt: skip


def typed(array):
    """Return a TensorProto whose values stand in the field of their dtype, as TensorFlow Serving answers."""
    array = np.asarray(array)
    dtype = tf.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto())
    if dtype == tf.string:
        proto.string_val.extend(array.ravel().tolist())
        return proto
    values = array.ravel()
    if dtype in (tf.float16, tf.bfloat16):
        values = values.view(np.uint16)
    elif array.dtype.kind == "c":
        values = values.view(np.float32 if dtype == tf.complex64 else np.float64)
    getattr(proto, FIELDS.get(dtype.name, "int_val")).extend(values.tolist())
    return proto


def some(dtype, shape):
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "c":
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        return np.asarray(random.normal(size=shape)).astype(dtype)
    if dtype is np.bool_:
        return np.asarray(random.normal(size=shape) > 0)
    return np.asarray(random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tensor_server.save(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def started(folder):
    servicer = tensor_server.TensorServer(folder)
    server, port = tensor_server.start(servicer)
    yield servicer, port
    server.stop(None).wait()


@pytest.fixture
def served(started):
    servicer, port = started
    yield started
    servicer.received.clear(), servicer.failures.clear()
    servicer.write, servicer.forge = tf.make_tensor_proto, None


@pytest.fixture(params=PREDICT_KINDS)
def connect(request, served):
    with ExitStack() as made:

        def client(model="mixed", **options):
            one = PREDICT_KINDS[request.param](f"127.0.0.1:{served[1]}", model, **{"timeout_s": 20, **options})
            made.callback(one.end)
            return one

        yield client


@pytest.fixture
def mixed(connect):
    return connect()


@pytest.fixture
def echo(connect):
    return connect("echo")


def same(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable


@pytest.mark.parametrize("write", [tf.make_tensor_proto, typed])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers_go_there_and_back(echo, served, dtype, shape, write):
    servicer, _ = served
    servicer.write = write
    sent = some(dtype, shape)
    found = echo.predict({"values": sent})
    assert list(found) == ["values"]
    same(servicer.received[0][1]["values"], np.asarray(sent))
    same(found["values"], np.asarray(sent))


@pytest.mark.parametrize("write", [tf.make_tensor_proto, typed])
@pytest.mark.parametrize(
    "sent",
    [
        [b"a", b"", b"zero at the end\0", bytes(range(256))],
        np.array([["ä", "b"], ["c", "日本"]]),
        np.array([b"abc", b"d"]),
        np.array([["a", b"b"]], object),
        "one text",
        b"\0",
        np.zeros((0, 2), object),
        [["a", "bc"], ["", "d"]],
        ("x", b"y"),
    ],
    ids=range(9),
)
def test_strings_go_there_and_back(echo, served, sent, write):
    servicer, _ = served
    servicer.write = write
    found = echo.predict({"texts": sent})["texts"]
    expected = np.array(sent, object)
    assert found.shape == expected.shape and found.dtype == object
    wanted = [one.encode() if isinstance(one, str) else one for one in expected.ravel().tolist()]
    assert found.ravel().tolist() == wanted == servicer.received[0][1]["texts"].ravel().tolist()


def test_strings_as_content_are_cut_as_tensorflow_writes_them(echo, served):
    from google.protobuf.internal.encoder import _VarintBytes

    texts = [b"a", b"", b"x" * 300, "ü".encode() * 9000]
    content = b"".join(_VarintBytes(len(text)) for text in texts) + b"".join(texts)

    def forge(response):
        del response.outputs["texts"].string_val[:]
        response.outputs["texts"].tensor_content = content

    served[0].forge = forge
    assert echo.predict({"texts": texts})["texts"].tolist() == texts
    for wrong in (content[:-1], content + b"x", b"\xff" * 40):
        content = wrong
        with pytest.raises(ServerAnswerError, match="texts"):
            echo.predict({"texts": texts})


@pytest.mark.parametrize("write", [tf.make_tensor_proto, typed])
def test_bfloat16_comes_as_float32_and_goes_as_it_is(echo, served, write):
    served[0].write = write
    values = some(np.float32, (3, 4))
    sent = tf.cast(values, tf.bfloat16).numpy()
    found = echo.predict({"x": sent})["x"]
    same(found, sent.astype(np.float32))
    assert served[0].received[0][1]["x"].dtype == sent.dtype


@pytest.mark.parametrize("dtype", [tf.qint8, tf.quint8, tf.qint32, tf.qint16, tf.quint16])
def test_quantized_numbers_come_as_their_integers(echo, served, dtype):
    plain = {"qint8": np.int8, "quint8": np.uint8, "qint32": np.int32, "qint16": np.int16, "quint16": np.uint16}
    sent = some(plain[dtype.name], (2, 3))

    def write(values):
        proto = tf.make_tensor_proto(values)
        proto.dtype = dtype.as_datatype_enum
        return proto

    served[0].write = write
    same(echo.predict({"x": sent})["x"], sent)


LAYOUTS = [np.arange(12).reshape(3, 4)[:, ::2], np.arange(5, dtype=">i4"), np.asfortranarray(np.eye(3))]


@pytest.mark.parametrize("sent", [*LAYOUTS, 3.5, 7, True, [1, 2], 1 + 2j], ids=range(8))
def test_arrays_of_any_layout_and_plain_numbers(echo, served, sent):
    found = echo.predict({"x": sent})["x"]
    np.testing.assert_array_equal(found, sent)
    np.testing.assert_array_equal(served[0].received[0][1]["x"], sent)


@pytest.mark.parametrize("values", [[7], [7, 8], [], [1, 2, 3, 4, 5, 6]], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.float16, np.complex64])
def test_values_that_stand_for_the_rest_as_tensorflow_reads_them(echo, served, dtype, values):
    proto = typed(np.array(values, dtype))
    proto.tensor_shape.CopyFrom(tf.TensorShape([2, 3]).as_proto())
    served[0].write = lambda _: proto
    same(echo.predict({"x": np.zeros(1)})["x"], tf.make_ndarray(proto))


def test_a_model_of_two_inputs_and_two_outputs(mixed):
    x, times = some(np.float32, (4, 3)), np.array([1, -2, 3, 2**31])
    found = mixed.predict({"x": x, "times": times})
    assert sorted(found) == ["scaled", "total"]
    np.testing.assert_allclose(found["scaled"], x * times[:, None], rtol=1e-6)
    same(found["total"], np.asarray(times.sum()))
    only = mixed.predict({"x": x, "times": times}, outputs=["total"])
    assert list(only) == ["total"]
    joined = mixed.predict({"texts": ["a", "bc", "ü"], "end": b"!"}, signature="join")
    assert joined["joined"].tolist() == [b"a!", b"bc!", "ü!".encode()]
    same(joined["lengths"], np.array([1, 2, 2], np.int32))


def test_metadata_status_and_versions(mixed):
    told = mixed.metadata()
    assert (told.model, told.version) == ("mixed", 7)
    assert told.signatures["serving_default"] == Signature(
        {"x": TensorSpec("float32", (None, 3)), "times": TensorSpec("int64", (None,))},
        {"scaled": TensorSpec("float32", (None, 3)), "total": TensorSpec("int64", ())},
    )
    assert told.signatures["join"].inputs == {"texts": TensorSpec("string", (None,)), "end": TensorSpec("string", ())}
    assert told.signatures["any_rank"].inputs == {"any": TensorSpec("bfloat16", None)}
    assert mixed.status() == [VersionState(7, "AVAILABLE")]
    pinned = mixed.at_version(7)
    assert pinned.version == 7
    assert pinned.predict({"texts": ["a"], "end": ""}, "join")["joined"].tolist() == [b"a"]
    with pytest.raises(ModelNotServedError, match="mixed version 8"):
        mixed.at_version(8).predict({"texts": ["a"], "end": ""}, "join")
    with pytest.raises(ModelNotServedError):
        pinned.at_version(8)
    with pytest.raises(ModelNotServedError, match="no version"):
        mixed.at_version(2**63)


def test_what_a_server_refuses(mixed, connect):
    good = {"x": np.zeros((1, 3), np.float32), "times": np.zeros(1, np.int64)}
    with pytest.raises(ConfigurationError, match=r"refused the inputs.*INVALID_ARGUMENT"):
        mixed.predict({"x": good["x"]})
    with pytest.raises(ConfigurationError, match="INVALID_ARGUMENT"):
        mixed.predict(good | {"x": np.zeros((1, 3), np.float64)})
    with pytest.raises(ConfigurationError, match="INVALID_ARGUMENT"):
        mixed.predict(good, outputs=["nothing"])
    with pytest.raises(ModelNotServedError, match="no such signature; ask for its metadata"):
        mixed.predict(good, "nothing")
    with pytest.raises(ModelNotServedError):
        connect("nobody").predict(good)
    with pytest.raises(ModelNotServedError):
        connect("nobody").metadata()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
        (np.zeros(2, [("a", "i4")]), "which no tensor has"),
        (np.zeros(2, np.longdouble), "which no tensor has"),
        (np.array([1, None], object), "bytes or str"),
        ([b"a", 1], "bytes or str"),
        ([[1, 2], [3]], "array"),
        ([["a"], ["b", "c"]], "bytes or str|array"),
        ([2**70], "bytes or str|array"),
    ],
    ids=range(8),
)
def test_inputs_that_cannot_be_sent(echo, served, values, told):
    with pytest.raises(ConfigurationError, match=told):
        echo.predict({"x": values})
    assert served[0].received == []


def test_wrong_calls(echo):
    with pytest.raises(TypeError):
        echo.predict(np.zeros(3))
    with pytest.raises(TypeError):
        echo.predict({"x": 1}, outputs="x")


def test_inputs_larger_than_a_message(echo, served, monkeypatch):
    with pytest.raises(ConfigurationError, match="do not fit in one request"):
        echo.predict({"x": np.broadcast_to(np.float32(0), (2**29,))})  # 2 GiB, of which none is held
    monkeypatch.setattr(client_tensors, "MAX_INPUT_BYTES", 1000)
    with pytest.raises(ConfigurationError, match="do not fit in one request"):
        echo.predict({"x": [b"x" * 600, b"y" * 600]})
    assert served[0].received == []


def test_a_request_that_is_too_large_for_the_server(echo, served):
    with pytest.raises(ConfigurationError, match="takes no message of that size"):
        echo.predict({"x": np.zeros(5 * 2**20, np.uint8)})
    assert echo.predict({"x": np.zeros(3 * 2**20, np.uint8)})["x"].shape == (3 * 2**20,)


def test_an_answer_larger_than_allowed(connect):
    client = connect("echo", max_answer_bytes=1000)
    with pytest.raises(ServerAnswerError, match="max_answer_bytes"):
        client.predict({"x": np.zeros(2000, np.uint8)})
    assert client.predict({"x": np.zeros(200, np.uint8)})["x"].shape == (200,)


def forged(**changes):
    def forge(response):
        tensor = response.outputs["x"]
        for name, value in changes.items():
            if name == "shape":
                tensor.tensor_shape.CopyFrom(tensor_pb2.TensorProto().tensor_shape)
                for size in value:
                    tensor.tensor_shape.dim.add(size=size)
            elif name == "rank":
                tensor.tensor_shape.unknown_rank = True
            else:
                setattr(tensor, name, value)

    return forge


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2**62]},
        {"shape": [2**40, 0, 2**40], "tensor_content": b""},
        {"shape": [-1]},
        {"shape": [1] * 33},
        {"shape": [2**31, 2**33]},
        {"rank": True},
        {"dtype": 20},
        {"dtype": 0},
        {"dtype": 21},
        {"dtype": 24},
        {"dtype": 999},
        {"shape": [5]},
        {"tensor_content": b"abc"},
        {"dtype": 7},
    ],
    ids=range(14),
)
def test_answers_that_are_nonsense(echo, served, changes):
    served[0].forge = forged(**changes)
    with pytest.raises(ServerAnswerError, match="output 'x'"):
        echo.predict({"x": np.zeros(3, np.float32)})


def test_an_answer_of_another_version_or_without_an_output(echo, served):
    def other(response):
        response.model_spec.version.value = 8

    served[0].forge = other
    with pytest.raises(ServerAnswerError, match="version 8 answered"):
        echo.at_version(7).predict({"x": 1})
    served[0].forge = None
    with pytest.raises(ServerAnswerError, match="without 'y'"):
        echo.predict({"x": 1}, outputs=["y"])


def test_metadata_that_are_none(mixed, served):
    served[0].forge = lambda response: response.metadata.clear()
    with pytest.raises(ServerAnswerError, match="without a signature_def"):
        mixed.metadata()
    served[0].forge = lambda response: setattr(response.metadata["signature_def"], "value", b"\xff")
    with pytest.raises(ServerAnswerError, match="SignatureDefMap"):
        mixed.metadata()
    served[0].forge = lambda response: setattr(response.metadata["signature_def"], "type_url", "x/y.Z")
    with pytest.raises(ServerAnswerError, match="without a signature_def"):
        mixed.metadata()


AWAY, BUSY = (Code.UNAVAILABLE, "away"), (Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")


@pytest.mark.parametrize("failures", [[AWAY] * 3, [BUSY] * 6], ids=["away", "busy"])
def test_it_is_sent_again_as_the_clients_rule_says(echo, served, failures):
    served[0].failures += failures
    assert echo.predict({"x": 1})["x"] == 1
    assert len(served[0].received) == len(failures) + 1


def test_it_is_given_up_as_the_clients_rule_says(echo, served):
    served[0].failures += [(Code.UNAVAILABLE, "away")] * 9
    with pytest.raises(ServerUnavailableError, match="away"):
        echo.predict({"x": 1})
    assert len(served[0].received) == 5


def test_a_closed_client(echo):
    echo.close()
    with pytest.raises(ValueError, match="closed"):
        echo.predict({"x": 1})
    with pytest.raises(ValueError, match="closed"):
        echo.metadata()


def test_an_encoder_of_ae_search_is_a_model_like_any_other(tiny_export, tiny_encoder):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    with ModelServer(tiny_export, model_name="tiny") as server, LatentClient(server.address, "tiny") as client:
        told = client.metadata()
        assert told.signatures["encode_uint8"].inputs["images"] == TensorSpec("uint8", (None, 16, 16, 3))
        found = client.predict({"images": pixels}, "encode_uint8")["latents"]
        np.testing.assert_array_equal(found, client.encode(pixels))
        with PredictClient(server.address, "tiny") as plain:
            np.testing.assert_array_equal(plain.predict({"images": pixels}, "encode_uint8")["latents"], found)
            card = plain.predict({"rows": np.zeros(1, np.int32)}, "describe")["model_card"]
            assert b'"fingerprint"' in card[0]


def test_many_tasks_share_one_client(served):
    async def calls():
        async with AsyncPredictClient(f"127.0.0.1:{served[1]}", "echo") as client:
            return await asyncio.gather(*(client.predict({"x": np.full(9, at)}) for at in range(200)))

    for at, found in enumerate(asyncio.run(calls())):
        np.testing.assert_array_equal(found["x"], np.full(9, at))


def test_many_strings_in_an_answer_and_no_more_structure_than_values(echo, served):
    texts = np.array([b"x" * 20] * 100_000, object)  # 2.2 MB, each string a field of its own
    sent = typed(texts)
    served[0].write = lambda _: sent
    assert echo.predict({"x": 1})["x"].tolist() == texts.tolist()
    hostile = tensor_pb2.TensorProto(dtype=21)
    for _ in range(2**20):
        hostile.variant_val.add()
    served[0].write = lambda _: hostile
    with pytest.raises(ServerAnswerError, match="beside values"):
        echo.predict({"x": 1})


def test_a_short_answer_cannot_claim_much_memory(echo, served):
    proto = typed(np.zeros(1))
    proto.tensor_shape.CopyFrom(tf.TensorShape([2**20]).as_proto())

    def forge(response):
        for at in range(100):
            response.outputs[f"x{at}"].CopyFrom(proto)

    served[0].forge = forge
    with pytest.raises(ServerAnswerError, match="larger than its message allows"):
        echo.predict({"x": 1})
    assert wire.MAX_SMALL_ANSWER_BYTES > 2**20
