"""Bounds on what strangers may hold of a server, made small enough to be reached."""

import logging
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded
from PIL import Image
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from ae_search.errors import ConfigurationError
from ae_search.model_server import Limits, ModelServer
from ae_search.model_server.decoding import Room, runs
from ae_search.model_server.failures import unforeseen
from ae_search.model_server.refusal import NO_MESSAGE, RequestRefused
from ae_search.model_server.structure import MAX_RANK, MAX_VALUES, check_predict_request

C = grpc.StatusCode
IMAGES = np.random.default_rng(8).random((2, 2, 2, 3), np.float32)
DEADLINE_S = 60


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    path = tmp_path_factory.mktemp("strangers") / "m"
    path.mkdir()
    (path / "1").symlink_to(exports / "1")
    return path


def test_more_calls_than_allowed(base, connect, predict_request, scrape, eventually):
    slow = predict_request(signature="slow", n=np.int32(500))
    with ModelServer(base, limits=Limits(max_calls=2), metrics_port=0) as server:
        stubs = connect(server)
        other = grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
        running = [stubs.prediction.Predict.future(slow, timeout=DEADLINE_S) for _ in range(2)]
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 2)
        call = other.unary_unary("/grpc.health.v1.Health/Check").future(b"", timeout=DEADLINE_S)
        assert (call.code(), call.details()) == (C.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        assert all(call.result().outputs for call in running)
        other.close()
        assert stubs.health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S).status == 1


def test_more_bytes_than_allowed(base, connect, predict_request):
    """One request may be larger than the bound, while it is alone."""
    large = predict_request(images=np.zeros((2**21 // IMAGES[0].nbytes, 2, 2, 3), np.float32))
    with ModelServer(base, limits=Limits(receiving_mib=1)) as server:
        stub = connect(server).prediction
        assert stub.Predict(large, timeout=DEADLINE_S).outputs
        calls = [stub.Predict.future(large, timeout=DEADLINE_S) for _ in range(30)]
        codes = {call.code() for call in calls}
        assert C.OK in codes and codes <= {C.OK, C.RESOURCE_EXHAUSTED}
        refused = {call.details() for call in calls if call.code() is C.RESOURCE_EXHAUSTED}
        assert refused <= {"Server Threadpool Exhausted"}
        assert stub.Predict(large, timeout=DEADLINE_S).outputs


@pytest.mark.parametrize("wrong", [{"max_calls": 0}, {"receiving_mib": -1}, {"max_connection_age_s": 0.0}])
def test_limits_out_of_range(wrong):
    with pytest.raises(ConfigurationError, match="must be above 0"):
        Limits(**wrong)


def test_room_is_waited_for(eventually):
    """By those that are not alone, in turn: one that needs much is not passed by those that need little."""
    room, order = Room(10), []
    released = threading.Event()

    def take(name, n_bytes):
        with room.taken(n_bytes):
            order.append(name)
            if name == "first":
                released.wait(DEADLINE_S)

    threads = []
    for name, n_bytes, seen in (("first", 6, 1), ("beside", 4, 2), ("large", 25, 2), ("small", 1, 2)):
        threads.append(threading.Thread(target=take, args=(name, n_bytes)))
        threads[-1].start()
        eventually(lambda seen=seen: len(order) == seen)
        if name == "large":
            eventually(room._turn.locked)
    released.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "beside", "large", "small"]


def test_files_are_cut_into_runs():
    def png(side_px):
        return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + side_px.to_bytes(4, "big") * 2

    one = runs([png(100)], 1)[0][2]
    assert one > 0
    assert runs([], 10) == [(0, 0, 0)]
    assert runs([b"no image", "no bytes"], 10) == [(0, 2, 0)]
    assert runs([png(100)] * 5, 2 * one) == [(0, 2, 2 * one), (2, 4, 2 * one), (4, 5, one)]
    assert runs([png(10), png(200), png(10)], one) == [(0, 1, one // 100), (1, 2, 4 * one), (2, 3, one // 100)]


def test_files_run_in_several_goes_are_answered_in_order(base, connect, predict_request, oracle):
    """Each of these wants more than half of all the room there is, on up to four cores."""
    colours = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]
    files = [encoded(Image.new("RGB", (6000, 6000), colour), "PNG") for colour in colours]
    with ModelServer(base) as server:
        request = predict_request(signature="encode_bytes", image_bytes=files)
        latents = tf.make_ndarray(connect(server).prediction.Predict(request, timeout=300).outputs["latents"])
    expected = oracle([np.broadcast_to(np.float32(colour) / 255, (2, 2, 3)) for colour in colours])
    np.testing.assert_allclose(latents, expected, rtol=1e-4, atol=1e-4)


def test_the_unforeseen_has_one_traceback_for_each_kind(caplog):
    def fail(kind):
        raise kind("of \x1b[31mcourse\n" + "x" * 1000)

    log = logging.getLogger("ae_search.tests.unforeseen")
    for kind in (ValueError, ValueError, KeyError, ValueError):
        try:
            fail(kind)
        except Exception as error:
            unforeseen(log, "it failed", error)
    assert [record.exc_info is not None for record in caplog.records] == [True, False, True, False]
    for record in caplog.records:
        text = record.getMessage()
        assert text.startswith("it failed: ") and len(text) < 320 and text.isprintable()


def large_request(**fields):
    """A PredictRequest of one tensor, larger than what is read without a look at its structure."""
    request = predict_pb2.PredictRequest()
    request.inputs["images"].CopyFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, **fields))
    return request


@pytest.mark.parametrize(
    "fields",
    [
        {"tensor_content": bytes(2**20)},
        {"float_val": [1.5] * 2**18},
        {"int_val": [255] * 2**18},
        {"int64_val": [-1] * 2**16},
        {"bool_val": [True] * 2**17},
        {"half_val": [3] * 2**17},
        {"string_val": [b"x" * 20] * MAX_VALUES},
        {"tensor_shape": tf.TensorShape([1] * MAX_RANK).as_proto(), "tensor_content": bytes(2**17)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_clients_send_passes(fields):
    request = large_request(**fields)
    request.model_spec.name, request.model_spec.version.value = "m", 2**62
    request.output_filter.extend(f"output {number}" for number in range(100))
    check_predict_request(request.SerializeToString())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 5))
def test_any_bytes_pass_or_are_refused(noise, at, cut):
    """Whatever protobuf reads, and is small, passes; nothing else happens but a refusal."""
    whole = large_request(float_val=[1.0] * 8, tensor_shape=tf.TensorShape([2, 4]).as_proto()).SerializeToString()
    for data in (noise, whole[:at] + noise, whole[: at % len(whole)] + noise + whole[at % len(whole) + cut :]):
        try:
            check_predict_request(data)
        except RequestRefused as refused:
            assert refused.code is (C.INTERNAL if refused.text == NO_MESSAGE else C.INVALID_ARGUMENT)
