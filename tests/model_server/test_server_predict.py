"""The embedded server's gRPC API, where it goes beyond what `test_contract` holds against the real one."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
)

from ae_search.model_server import Batching, ModelServer

C = grpc.StatusCode
IMAGES = np.random.default_rng(3).random((5, 2, 2, 3), np.float32)
DEADLINE_S = 30


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "m"
    path.mkdir()
    (path / "3").symlink_to(exports / "1")
    return path


@pytest.fixture(scope="module", params=[None, Batching()], ids=["alone", "joined"])
def server(base, request):
    with ModelServer(base, batching=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(server, connect):
    return connect(server)


@pytest.fixture(scope="module")
def refusal(stubs):
    """Send a Predict that must fail; return its code and text."""

    def refusal(request):
        with pytest.raises(grpc.RpcError) as caught:
            stubs.prediction.Predict(request, timeout=DEADLINE_S)
        return caught.value.code(), caught.value.details()

    return refusal


@pytest.fixture(scope="module")
def still_answers(stubs, predict_request):
    yield
    stubs.prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)


@pytest.mark.parametrize("name", ["m", "default"])
def test_predict_equals_numpy_and_says_what_answered(stubs, predict_request, oracle, name):
    answer = stubs.prediction.Predict(predict_request(name, images=IMAGES), timeout=DEADLINE_S)
    assert answer.model_spec.name == name
    assert answer.model_spec.version.value == 3
    assert answer.model_spec.signature_name == "serving_default"
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["latents"]), oracle(IMAGES), rtol=1e-5, atol=1e-5)


def test_uint8_float_val_and_pinned_version(stubs, predict_request, oracle):
    pixels = (IMAGES * 255).astype(np.uint8)
    request = predict_request(signature="encode_uint8", version=3, images=pixels)
    proto = request.inputs["images"]
    proto.ClearField("tensor_content")
    proto.int_val.extend(pixels.ravel().tolist())
    answer = stubs.prediction.Predict(request, timeout=DEADLINE_S)
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["latents"]), oracle(pixels / 255), rtol=1e-5, atol=1e-5)


def test_one_value_is_repeated_over_the_shape(stubs, predict_request, oracle):
    request = predict_request(images=np.zeros((2, 2, 2, 3), np.float32))
    request.inputs["images"].CopyFrom(
        tensor_pb2.TensorProto(
            dtype=types_pb2.DT_FLOAT, float_val=[0.5], tensor_shape=tf.TensorShape([2, 2, 2, 3]).as_proto()
        )
    )
    answer = stubs.prediction.Predict(request, timeout=DEADLINE_S)
    expected = oracle(np.full((2, 2, 2, 3), 0.5))
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["latents"]), expected, rtol=1e-5, atol=1e-5)


def test_describe_and_empty_batch(stubs, predict_request):
    answer = stubs.prediction.Predict(predict_request(signature="describe"), timeout=DEADLINE_S)
    assert b'"fingerprint": "f1"' in answer.outputs["model_card"].string_val[0]
    empty = predict_request(images=np.zeros((0, 2, 2, 3), np.float32))
    answer = stubs.prediction.Predict(empty, timeout=DEADLINE_S)
    assert tf.make_ndarray(answer.outputs["latents"]).shape == (0, 4)


def test_output_filter(stubs, predict_request, refusal):
    answer = stubs.prediction.Predict(predict_request(images=IMAGES, output_filter=["latents"]), timeout=DEADLINE_S)
    assert list(answer.outputs) == ["latents"]
    code, text = refusal(predict_request(images=IMAGES, output_filter=["nokey"]))
    assert code == C.INVALID_ARGUMENT and "nokey" in text
    assert refusal(predict_request(images=IMAGES, output_filter=["latents"] * 2))[0] == C.INVALID_ARGUMENT


def test_tensor_content_when_asked_for(base, connect, predict_request, oracle):
    with ModelServer(base, model_name="other", enable_serialization_as_tensor_content=True) as server:
        stubs = connect(server)
        answer = stubs.prediction.Predict(predict_request("other", images=IMAGES), timeout=DEADLINE_S)
        card = stubs.prediction.Predict(predict_request("other", signature="describe"), timeout=DEADLINE_S)
    latents = np.frombuffer(answer.outputs["latents"].tensor_content, np.float32).reshape(5, 4)
    np.testing.assert_allclose(latents, oracle(IMAGES), rtol=1e-5, atol=1e-5)
    proto = card.outputs["model_card"]
    assert not proto.string_val
    # TensorFlow's own reader of its string layout is the oracle.
    assert b'"fingerprint": "f1"' in tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy()


@pytest.mark.usefixtures("still_answers")
@pytest.mark.parametrize(
    ("signature", "inputs", "named"),
    [
        ("", {"pictures": IMAGES}, "pictures"),
        ("", {"images": IMAGES, "more": IMAGES}, "more"),
        ("", {}, '"images" is missing'),
        ("", {"images": IMAGES.astype(np.float64)}, '"images" must be float32'),
        ("", {"images": IMAGES[0]}, "(2, 2, 3)"),
        ("", {"images": IMAGES[..., :1]}, "(5, 2, 2, 1)"),
        ("", {"images": np.float32(1)}, "()"),
        ("encode_bytes", {"image_bytes": [b"no image"]}, "Unknown image file format"),
        ("encode_bytes", {"image_bytes": b"no image"}, "(None,)"),
        ("describe", {"images": IMAGES}, "images"),
    ],
)
def test_inputs_that_do_not_fit(refusal, predict_request, signature, inputs, named):
    code, text = refusal(predict_request(signature=signature, **inputs))
    assert code == C.INVALID_ARGUMENT
    assert named in text
    assert len(text) < 200 and not any(noise in text for noise in ("{{", "node", "Graph", "[Op", "\n"))


def tensor(dtype, shape, **values):
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=tf.TensorShape(shape).as_proto(), **values)


@pytest.mark.usefixtures("still_answers")
@pytest.mark.parametrize(
    ("proto", "named"),
    [
        (tensor(types_pb2.DT_FLOAT, [1, 2, 2, 3], tensor_content=b"short"), "malformed"),
        (tensor(types_pb2.DT_FLOAT, [1, 2, 2, 3], float_val=[0.0] * 13), "13 values"),
        (tensor(types_pb2.DT_FLOAT, None), "shape"),
        (tensor(types_pb2.DT_FLOAT, [1, None, 2, 3]), "shape"),
        (tensor(types_pb2.DT_INVALID, [1, 2, 2, 3]), "dtype"),
        (tensor(999, [1, 2, 2, 3]), "dtype"),
        (tensor(types_pb2.DT_VARIANT, [1, 2, 2, 3]), "variant"),
        (tensor(types_pb2.DT_FLOAT_REF, [1, 2, 2, 3], float_val=[1.0]), "float32"),
        (tensor(types_pb2.DT_FLOAT, [2**40, 2, 2, 3], float_val=[1.0]), "bytes when decoded"),
        (tensor(types_pb2.DT_FLOAT, [2**62, 2, 2, 3]), "bytes when decoded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_tensors(refusal, predict_request, proto, named):
    request = predict_request()
    request.inputs["images"].CopyFrom(proto)
    code, text = refusal(request)
    assert code == C.INVALID_ARGUMENT
    assert named in text and '"images"' in text


def test_a_string_repeated_without_end_is_refused(refusal, predict_request):
    request = predict_request(signature="encode_bytes")
    request.inputs["image_bytes"].CopyFrom(tensor(types_pb2.DT_STRING, [2**20], string_val=[b"x" * 2**20]))
    code, text = refusal(request)
    assert code == C.INVALID_ARGUMENT and "bytes when decoded" in text


def test_status_of_unknown_model_and_version(stubs):
    def details(name, version=None):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        with pytest.raises(grpc.RpcError) as caught:
            stubs.model.GetModelStatus(request, timeout=DEADLINE_S)
        return caught.value.code(), caught.value.details()

    assert details("nomodel") == (C.NOT_FOUND, "Could not find any versions of model nomodel")
    assert details("m", 99) == (C.NOT_FOUND, "Could not find version 99 of model m")


def test_unimplemented_calls(stubs):
    for call in (
        lambda: stubs.prediction.MultiInference(inference_pb2.MultiInferenceRequest(), timeout=DEADLINE_S),
        lambda: stubs.model.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=DEADLINE_S),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() == C.UNIMPLEMENTED


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService"])
def test_health(stubs, service):
    answer = stubs.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service(stubs):
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    with pytest.raises(grpc.RpcError) as caught:
        stubs.health.Check(request, timeout=DEADLINE_S)
    assert caught.value.code() == C.NOT_FOUND
    watch = stubs.health.Watch(request, timeout=DEADLINE_S)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


@pytest.mark.parametrize(
    "method",
    ["PredictionService/Predict", "PredictionService/GetModelMetadata", "ModelService/GetModelStatus"],
)
def test_bytes_that_are_no_request_are_not_logged(stubs, caplog, method):
    call = stubs.channel.unary_unary(f"/tensorflow.serving.{method}").future(b"\xff" * 16, timeout=DEADLINE_S)
    assert (call.code(), call.details()) == (
        C.INTERNAL,
        "The bytes of the request are no message of this method",
    )
    assert caplog.text == ""


def test_bytes_that_are_no_health_request_are_not_logged(stubs, caplog):
    check = stubs.channel.unary_unary("/grpc.health.v1.Health/Check").future(b"\xff" * 16, timeout=DEADLINE_S)
    assert check.code() == C.NOT_FOUND
    watch = stubs.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff" * 16, timeout=DEADLINE_S)
    status = health_pb2.HealthCheckResponse.FromString(next(watch)).status
    assert status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()
    assert caplog.text == ""


def test_the_unforeseen_is_internal_and_logged(server, refusal, predict_request, monkeypatch, caplog):
    # The one patch of these tests: nothing that a client can send is known to get here.
    monkeypatch.setattr(server._versions, "servable", lambda version: 1 / 0)
    assert refusal(predict_request(images=IMAGES)) == (C.INTERNAL, "Predict failed: ZeroDivisionError.")
    assert "ZeroDivisionError" in caplog.text
