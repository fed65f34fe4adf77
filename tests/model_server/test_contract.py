"""What TensorFlow Serving answers, held against the embedded server and a real one where there is one: `targets`."""

import shutil
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from pictures import encoded
from PIL import Image
from targets import REAL, free_version, running
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, get_model_status_pb2

from ae_search.client import LatentClient
from ae_search.errors import ImageError, ModelNotServedError
from ae_search.model_server import Batching

C = grpc.StatusCode
IMAGES = np.random.default_rng(3).random((5, 2, 2, 3), np.float32)
DEADLINE_S = 30


@pytest.fixture(scope="module", params=["embedded", REAL])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def target(kind, publish, eventually, tmp_path_factory):
    base = tmp_path_factory.mktemp("contract") / "m"
    base.mkdir()
    with running(kind, base, publish, eventually) as target:
        yield target


@pytest.fixture
def fresh(kind, publish, eventually, tmp_path):
    """Start a server of the test's own, with this many threads, which joins requests or not."""
    base = tmp_path / "m"
    base.mkdir()
    return lambda workers=None, batching=None: running(kind, base, publish, eventually, workers, batching)


@pytest.fixture(scope="module")
def ask(target, predict_request):
    """Send a Predict to the model under test."""

    def ask(model=None, **options):
        return target.prediction.Predict(
            predict_request(target.name if model is None else model, **options), timeout=DEADLINE_S
        )

    return ask


def refusal(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_predict_says_what_answered(target, ask, oracle):
    answer = ask(images=IMAGES)
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (target.name, target.version, "serving_default")
    assert len(answer.outputs["latents"].float_val) == 20
    assert not answer.outputs["latents"].tensor_content
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["latents"]), oracle(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pinned", [False, True])
def test_signature_and_version_are_echoed(target, ask, oracle, pinned):
    pixels = (IMAGES * 255).astype(np.uint8)
    answer = ask(signature="encode_uint8", version=target.version if pinned else None, images=pixels)
    assert answer.model_spec.signature_name == "encode_uint8"
    assert answer.model_spec.version.value == target.version
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["latents"]), oracle(pixels / 255), rtol=1e-5, atol=1e-5)


def test_unknown_model_version_name_signature_and_label(target, ask, predict_request):
    assert refusal(lambda: ask("nomodel", images=IMAGES)) == (
        C.NOT_FOUND,
        "Servable not found for request: Latest(nomodel)",
    )
    assert refusal(lambda: ask(version=9, images=IMAGES)) == (
        C.NOT_FOUND,
        f"Servable not found for request: Specific({target.name}, 9)",
    )
    assert refusal(lambda: ask("", images=IMAGES)) == (C.INVALID_ARGUMENT, "ModelSpec has no name specified.")
    code, text = refusal(lambda: ask(signature="nosig", images=IMAGES))
    assert (code, 'signature key "nosig" not found' in text) == (C.FAILED_PRECONDITION, True)
    labelled = predict_request(target.name, images=IMAGES)
    labelled.model_spec.version_label = "canary"
    code, text = refusal(lambda: target.prediction.Predict(labelled, timeout=DEADLINE_S))
    assert (code, text) == (C.INVALID_ARGUMENT, "Unrecognized servable version label: canary")


@pytest.mark.parametrize(
    ("signature", "inputs", "named"),
    [
        ("", {"pictures": IMAGES}, "pictures"),
        ("", {}, "images"),
        ("", {"images": IMAGES.astype(np.float64)}, "float"),
        ("", {"images": IMAGES[..., :1]}, "1"),
        ("encode_bytes", {"image_bytes": [b"no image"]}, "Unknown image file format"),
    ],
    ids=["name", "missing", "dtype", "shape", "undecodable"],
)
def test_inputs_that_do_not_fit(ask, signature, inputs, named):
    code, text = refusal(lambda: ask(signature=signature, **inputs))
    assert code == C.INVALID_ARGUMENT
    assert named in text
    assert ask(images=IMAGES).outputs


def test_status(target):
    assert target.statuses()[target.version] == ("AVAILABLE", "")

    def status(name, version=None):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        return target.model.GetModelStatus(request, timeout=DEADLINE_S)

    assert [s.version for s in status(target.name, target.version).model_version_status] == [target.version]
    assert refusal(lambda: status("nomodel"))[0] == C.NOT_FOUND
    assert refusal(lambda: status(target.name, 9))[0] == C.NOT_FOUND


def test_what_is_no_request_has_no_name_or_another_method(target):
    call = target.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert refusal(lambda: call(b"\xff\xff\xff", timeout=DEADLINE_S))[0] == C.INTERNAL
    unnamed = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(lambda: target.model.GetModelStatus(unnamed, timeout=DEADLINE_S))[0] == C.NOT_FOUND
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = target.name
    request.input.example_list.examples.add()
    code, text = refusal(lambda: target.prediction.Classify(request, timeout=DEADLINE_S))
    assert (code, "tensorflow/serving/classify" in text) == (C.INVALID_ARGUMENT, True)
    request.model_spec.name = "nomodel"
    assert refusal(lambda: target.prediction.Classify(request, timeout=DEADLINE_S))[0] == C.NOT_FOUND


def test_metadata(target):
    def metadata(*fields, name=target.name):
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = name
        return target.prediction.GetModelMetadata(request, timeout=DEADLINE_S)

    answer = metadata("signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert answer.model_spec.version.value == target.version
    assert {"encode_bytes", "encode_uint8", "serving_default"} <= set(signatures.signature_def)
    assert signatures.signature_def["encode_uint8"].inputs["images"].dtype == types_pb2.DT_UINT8
    assert refusal(lambda: metadata("other"))[0] == C.INVALID_ARGUMENT
    assert refusal(lambda: metadata())[0] == C.INVALID_ARGUMENT
    assert refusal(lambda: metadata("signature_def", name="nomodel"))[0] == C.NOT_FOUND


def test_health(target):
    assert target.is_healthy()


def test_more_requests_than_threads(fresh, predict_request):
    with fresh(workers=4) as target:
        slow = predict_request(target.name, signature="slow", n=np.int32(400))
        calls = [target.prediction.Predict.future(slow, timeout=60) for _ in range(80)]
        refused = [call for call in calls if call.exception(timeout=60) is not None]
        assert 0 < len(refused) < len(calls)
        for call in refused:
            assert (call.code(), call.details()) == (C.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        assert target.prediction.Predict(slow, timeout=60).outputs


JOINS = Batching(max_batch_size=64, batch_timeout_micros=20_000)


def png(seed):
    return tf.io.encode_png(np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)).numpy()


def test_what_is_joined_with_an_undecodable_image_is_refused_with_it(fresh, predict_request):
    with fresh(batching=JOINS) as target:
        send = lambda *files: target.prediction.Predict.future(  # noqa: E731
            predict_request(target.name, signature="encode_bytes", image_bytes=list(files)), timeout=DEADLINE_S
        )
        refused = 0
        for attempt in range(20):
            calls = [send(png(attempt), png(attempt + 1)), send(b"no image"), send(png(attempt + 2))]
            outcomes = [call.exception(timeout=DEADLINE_S) for call in calls]
            assert outcomes[1].code() == C.INVALID_ARGUMENT
            joined = [outcome for outcome in (outcomes[0], outcomes[2]) if outcome is not None]
            assert {(one.code(), "Unknown image file format" in one.details()) for one in joined} <= {
                (C.INVALID_ARGUMENT, True)
            }
            refused += len(joined)
        assert refused > 0
        assert send(png(1)).result(timeout=DEADLINE_S).outputs


def test_pixels_of_another_shape_fail_what_they_are_joined_with(fresh, predict_request):
    with fresh(batching=JOINS) as target:
        send = lambda images: target.prediction.Predict.future(  # noqa: E731
            predict_request(target.name, images=images), timeout=DEADLINE_S
        )
        codes = set()
        for _ in range(20):
            calls = [send(IMAGES), send(np.zeros((1, 3, 3, 3), np.float32)), send(IMAGES)]
            codes |= {call.exception(timeout=DEADLINE_S) and call.code() for call in calls}
        assert codes <= {None, C.FAILED_PRECONDITION, C.INVALID_ARGUMENT}
        np.testing.assert_equal(send(IMAGES).result(timeout=DEADLINE_S).model_spec.version.value, target.version)


def test_a_client_leaves_out_the_damaged_file_only(fresh):
    with fresh(batching=JOINS) as target, LatentClient(target.address, target.name, timeout_s=DEADLINE_S) as client:
        files = [png(seed) for seed in range(200)]
        damaged = Image.effect_noise((40, 40), 50)
        files[137] = encoded(damaged)[:-200]
        for _ in range(3):
            told = {}
            assert len(client.encode_files(files, on_bad=told.__setitem__)) == 199
            assert {at: type(error) for at, error in told.items()} == {137: ImageError}


def test_a_client_meets_an_address_that_has_the_version(fresh):
    """A server and a dead address, and a version that nobody has."""
    with fresh() as target:
        if not target.address[0].isdigit():
            pytest.skip("gRPC takes several addresses as numbers only")
        several = f"ipv4:{target.address},127.0.0.1:1"
        with LatentClient(several, target.name, timeout_s=DEADLINE_S) as client:
            assert client.describe().version == target.version
            assert client.encode((IMAGES * 255).astype(np.uint8)).shape == (5, 4)
            with pytest.raises(ModelNotServedError):
                client.at_version(target.version + 7).describe()


def test_roll_over_and_a_broken_version(fresh, publish, predict_request, oracle, eventually, tmp_path):
    with fresh() as target:
        answered, failed, done = [], [], threading.Event()

        def load():
            while not done.is_set():
                try:
                    answer = target.prediction.Predict(predict_request(target.name, images=IMAGES), timeout=DEADLINE_S)
                    answered.append((answer.model_spec.version.value, tf.make_ndarray(answer.outputs["latents"])))
                except grpc.RpcError as error:
                    if error.code() != C.RESOURCE_EXHAUSTED:  # answered by "later", and not by the roll-over
                        failed.append(error)

        callers = [threading.Thread(target=load) for _ in range(2)]
        for caller in callers:
            caller.start()
        new = target.version + 1
        publish(target.base / str(new), seed=2)
        eventually(lambda: target.statuses().get(new, ("",))[0] == "AVAILABLE")
        eventually(lambda: answered[-1][0] == new)
        eventually(lambda: target.statuses()[target.version] == ("END", ""))

        # TensorFlow Serving serves a version without its variables, unless a warm-up request makes the load fail.
        broken = publish(tmp_path / str(new + 1), warm_up=[predict_request(target.name, images=IMAGES)])
        shutil.rmtree(broken / "variables")
        broken.rename(target.base / broken.name)
        eventually(lambda: target.statuses().get(new + 1, ("",))[0] == "END", timeout_s=90)
        time.sleep(0.2)  # under load still
        done.set()
        for caller in callers:
            caller.join()
        assert failed == []
        assert list(target.statuses())[:3] == [new + 1, new, target.version]
        assert target.statuses()[new] == ("AVAILABLE", "")
        assert target.statuses()[new + 1][1] != ""
        assert {version for version, _ in answered} == {target.version, new}
        for version, latents in answered:
            expected = oracle(IMAGES, seed=1 if version == target.version else 2)
            np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-5)


def test_folder_names(fresh, publish, eventually):
    with fresh() as target:
        later = free_version(target.base)
        for name in (f"v{later + 1}", f".tmp-{later + 2}"):
            publish(target.base / name)
        publish(target.base / f"00{later}")
        eventually(lambda: target.statuses().get(later, ("",))[0] == "AVAILABLE")
        assert set(target.statuses()) >= {target.version, later}
        assert not {later + 1, later + 2} & set(target.statuses())
