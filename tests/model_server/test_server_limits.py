"""What a server refuses to protect itself, and what it answers nevertheless."""

import logging
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from ae_search.cores import cores
from ae_search.model_server import Batching, ModelServer
from ae_search.model_server.options import default_threads
from ae_search.model_server.tensors import is_quick

C = grpc.StatusCode
IMAGES = np.random.default_rng(8).random((2, 2, 2, 3), np.float32)
DEADLINE_S = 60


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    path = tmp_path_factory.mktemp("limits") / "m"
    path.mkdir()
    (path / "1").symlink_to(exports / "1")
    return path


@pytest.fixture
def slow(predict_request):
    return predict_request(signature="slow", n=np.int32(500))


def test_four_threads_for_each_core():
    assert default_threads() == 4 * cores()


def test_more_requests_than_threads(base, connect, predict_request, slow, scrape, eventually):
    """Those beyond the limit are refused at once, and the server's state can be asked for meanwhile."""
    with ModelServer(base, workers=2, metrics_port=0) as server:
        stubs = connect(server)
        running = [stubs.prediction.Predict.future(slow, timeout=DEADLINE_S) for _ in range(2)]
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 2)
        with pytest.raises(grpc.RpcError) as caught:
            stubs.prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
        assert (caught.value.code(), caught.value.details()) == (C.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        assert stubs.health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S).status == 1
        status = get_model_status_pb2.GetModelStatusRequest()
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        status.model_spec.name = metadata.model_spec.name = "m"
        assert stubs.model.GetModelStatus(status, timeout=DEADLINE_S).model_version_status
        assert stubs.prediction.GetModelMetadata(metadata, timeout=DEADLINE_S).metadata
        # What cannot be served takes no thread to find out.
        unknown = stubs.prediction.Predict.future(predict_request(signature="nosig"), timeout=DEADLINE_S)
        assert unknown.code() == C.FAILED_PRECONDITION
        assert not any(call.done() for call in running)
        assert all(call.result().outputs for call in running)
        eventually(lambda: stubs.prediction.Predict.future(predict_request(images=IMAGES)).code() == C.OK)


def test_a_thread_is_taken_until_the_run_of_a_caller_who_left_has_ended(
    base, connect, predict_request, slow, scrape, eventually
):
    with ModelServer(base, workers=1, metrics_port=0) as server:
        stub = connect(server).prediction
        call = stub.Predict.future(slow, timeout=DEADLINE_S)
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 1)
        call.cancel()
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 0)
        assert stub.Predict.future(predict_request(images=IMAGES)).code() == C.RESOURCE_EXHAUSTED
        eventually(lambda: stub.Predict.future(predict_request(images=IMAGES)).code() == C.OK)


def test_refused_requests_free_their_thread(base, connect, predict_request):
    with ModelServer(base, workers=1) as server:
        stub = connect(server).prediction
        for _ in range(5):
            bad = predict_request(signature="encode_bytes", image_bytes=[b"no image"])
            assert stub.Predict.future(bad, timeout=DEADLINE_S).code() == C.INVALID_ARGUMENT
        assert stub.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs


def test_joined_requests_need_no_thread_each(base, connect, predict_request):
    with ModelServer(base, workers=1, batching=Batching()) as server:
        stub = connect(server).prediction
        with ThreadPoolExecutor(16) as callers:
            calls = callers.map(lambda _: stub.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S), range(64))
            assert all(answer.outputs for answer in calls)


def test_what_takes_long_to_decode_is_given_to_a_thread(
    base, connect, predict_request, slow, oracle, scrape, eventually
):
    """As the refusal shows where there is none; small requests need none."""
    pixels = np.random.default_rng(0).integers(0, 256, (20_000, 2, 2, 3), np.uint8)
    large = predict_request(signature="encode_uint8", images=pixels)
    large.inputs["images"].ClearField("tensor_content")
    large.inputs["images"].int_val.extend(pixels.ravel().tolist())
    with ModelServer(base, workers=1, batching=Batching(max_batch_size=20_000), metrics_port=0) as server:
        stub = connect(server).prediction
        running = stub.Predict.future(slow, timeout=DEADLINE_S)
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 1)
        assert stub.Predict.future(large, timeout=DEADLINE_S).code() == C.RESOURCE_EXHAUSTED
        small = stub.Predict.future(predict_request(images=IMAGES), timeout=DEADLINE_S)
        assert (small.code(), running.code()) == (C.OK, C.OK)
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 0)
        latents = tf.make_ndarray(stub.Predict(large, timeout=DEADLINE_S).outputs["latents"])
    np.testing.assert_allclose(latents, oracle(pixels / 255), rtol=1e-4, atol=1e-5)


FLOAT, STRING = types_pb2.DT_FLOAT, types_pb2.DT_STRING


@pytest.mark.parametrize(
    ("dtype", "shape", "values", "quick"),
    [
        (FLOAT, [2, 3], {"float_val": [0.0] * 6}, True),
        (FLOAT, [-1, 3], {}, True),
        (FLOAT, [2**20], {"tensor_content": bytes(2**22)}, True),
        (FLOAT, [2**20], {"float_val": [0.0] * 2**20}, False),
        (FLOAT, [2**20], {"float_val": [0.0]}, False),
        (FLOAT, [2**62] * 100_000, {}, False),
        (STRING, [2], {"string_val": [b"a", b"b"]}, True),
        (STRING, [2], {"string_val": [b"a"]}, False),
        (STRING, [2**20], {"string_val": [b"a"] * 2**20}, False),
    ],
    ids=["small", "wrong", "content", "values", "repeated", "rank", "strings", "a string repeated", "many strings"],
)
def test_what_is_decoded_quickly(dtype, shape, values, quick):
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    assert is_quick(proto) is quick


def test_the_largest_message(base, connect, predict_request):
    """A request that is larger is refused; what fits is answered."""
    with ModelServer(base, max_message_mib=1) as server:
        stub = connect(server).prediction
        row_bytes = IMAGES[0].nbytes
        fits, large = (np.zeros((size // row_bytes, 2, 2, 3), np.float32) for size in (2**20 - 1000, 2**20 + 1000))
        assert stub.Predict(predict_request(images=fits), timeout=DEADLINE_S).outputs
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(predict_request(images=large), timeout=DEADLINE_S)
        assert caught.value.code() == C.RESOURCE_EXHAUSTED
        assert "larger than max" in caught.value.details()
        assert stub.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_warning_on_loopback(base, host, caplog):
    with ModelServer(base, host=host), caplog.at_level(logging.WARNING):
        pass
    assert caplog.text == ""


def test_a_warning_where_others_can_reach_it(base, caplog):
    # An address of no machine: nothing is opened, and the warning comes first.
    with pytest.raises(Exception, match="Cannot listen on 192.0.2.1:0"):
        ModelServer(base, host="192.0.2.1").start()
    assert "listening on 192.0.2.1 without TLS" in caplog.text


def test_ipv6(base, connect, predict_request):
    with ModelServer(base, host="::1") as server:
        assert server.address == f"[::1]:{server.port}"
        assert connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs
