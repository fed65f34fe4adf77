"""Which version is served while folders come, go and break."""

import shutil
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import get_model_status_pb2

from ae_search.errors import ConfigurationError, ExportError
from ae_search.model_server import ModelServer, Servable

IMAGES = np.random.default_rng(4).random((2, 2, 2, 3), np.float32)
POLL_S = 0.1
DEADLINE_S = 30


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "m"
    path.mkdir()
    return path


@pytest.fixture
def status(connect):
    """The states as `{version: (state, error)}`, in the server's order."""

    def status(server):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "m"
        answer = connect(server).model.GetModelStatus(request, timeout=DEADLINE_S)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {s.version: (name(s.state), s.status.error_message) for s in answer.model_version_status}

    return status


def break_version(folder):
    (folder / "variables" / "variables.data-00000-of-00001").unlink()
    (folder / "variables" / "variables.index").unlink()


def test_a_request_under_way_survives_the_swap(base, publish, connect, predict_request, eventually, status):
    publish(base / "1")
    with ModelServer(base, poll_interval_s=POLL_S) as server:
        call = connect(server).prediction.Predict.future(
            predict_request(signature="slow", n=np.int32(1500)), timeout=60
        )
        publish(base / "2", seed=2)
        eventually(lambda: server.version == 2)
        eventually(lambda: status(server)[1][0] != "AVAILABLE")
        # Not before its last request has been answered.
        assert (status(server)[1][0], call.done()) == ("UNLOADING", False)
        assert call.result().model_spec.version.value == 1
        eventually(lambda: status(server)[1] == ("END", ""))


def test_a_broken_version_keeps_the_old_one(base, publish, connect, predict_request, eventually, status, tmp_path):
    publish(base / "1")
    with ModelServer(base, poll_interval_s=POLL_S) as server:
        broken = publish(tmp_path / "5", seed=2)
        break_version(broken)
        broken.rename(base / "5")
        eventually(lambda: status(server).get(5, ("",))[0] == "END")
        assert str(base / "5") in status(server)[5][1]
        assert status(server)[1] == ("AVAILABLE", "")
        answer = connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
        assert answer.model_spec.version.value == 1
        shutil.rmtree(base / "5")
        eventually(lambda: server._versions._failed == set())
        publish(base / "5", seed=2)
        eventually(lambda: server.version == 5)


def test_rolls_back_when_the_newest_is_removed(base, publish, connect, predict_request, oracle, eventually, status):
    publish(base / "1")
    publish(base / "2", seed=2)
    with ModelServer(base, poll_interval_s=POLL_S) as server:
        assert server.version == 2
        shutil.rmtree(base / "2")
        eventually(lambda: server.version == 1)
        answer = connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
        np.testing.assert_allclose(tf.make_ndarray(answer.outputs["latents"]), oracle(IMAGES), rtol=1e-5, atol=1e-5)
        eventually(lambda: status(server) == {2: ("END", ""), 1: ("AVAILABLE", "")})
        shutil.rmtree(base)
        for _ in range(3):
            server._versions._stopping.wait(POLL_S)
            assert connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs


def test_other_names_are_no_versions(base, publish, status):
    publish(base / "007")
    for name in ("v9", ".tmp-3", "8.5", "-2", "٣", "9" * 30):
        publish(base / name, seed=2)
    (base / "12").write_text("a file")
    with ModelServer(base, poll_interval_s=POLL_S) as server:
        assert server.version == 7
        assert status(server) == {7: ("AVAILABLE", "")}


def test_a_version_without_saved_model_is_waited_for_once(base, publish, eventually, status, exports):
    publish(base / "1")
    with ModelServer(base, poll_interval_s=0.4) as server:
        shutil.copytree(exports / "2", base / "2", ignore=shutil.ignore_patterns("saved_model.pb"))
        (base / "3").mkdir()
        eventually(lambda: status(server).get(2, ("",))[0] == "START")
        shutil.copy(exports / "2" / "saved_model.pb", base / "2")
        eventually(lambda: server.version == 2)
        assert status(server)[3][0] == "END"


def test_a_failing_warm_up_fails_the_load(base, publish, predict_request):
    good = predict_request(images=IMAGES)
    assert Servable.load(publish(base / "1", warm_up=[good]), 1).version == 1
    publish(base / "2", warm_up=[good, predict_request(signature="encode_bytes", image_bytes=[b"no image"])])
    with pytest.raises(ExportError, match=r"/m/2 cannot be loaded.*Unknown image file format"):
        Servable.load(base / "2", 2)
    publish(base / "3", warm_up=[good] * 1001)
    with pytest.raises(ExportError, match="more than 1000 records"):
        Servable.load(base / "3", 3)
    with ModelServer(base) as server:
        assert server.version == 1


def test_damaged_warm_up_file(base, publish, predict_request):
    publish(base / "1", warm_up=[predict_request(images=IMAGES)])
    records = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records.write_bytes(records.read_bytes()[:-10])
    with pytest.raises(ExportError, match="/m/1"):
        Servable.load(base / "1", 1)


def test_nothing_to_serve(base, publish, exports):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ModelServer(base / "missing").start()
    with pytest.raises(ConfigurationError, match="has no version folder"):
        ModelServer(base).start()
    with pytest.raises(ConfigurationError, match="is a SavedModel"):
        ModelServer(exports / "1").start()
    break_version(publish(base / "1"))
    (base / "2").mkdir()
    with pytest.raises(ExportError, match="/m/2 cannot be loaded"):
        ModelServer(base, poll_interval_s=POLL_S).start()


def test_port_in_use(base, publish):
    publish(base / "1")
    with ModelServer(base) as server:
        other = ModelServer(base, port=server.port)
        with pytest.raises(ConfigurationError, match=f"Cannot listen on 127.0.0.1:{server.port}"):
            other.start()


def test_drains(base, publish, connect, predict_request):
    publish(base / "1")
    server = ModelServer(base)
    server.start()
    stubs = connect(server)
    watch = stubs.health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    call = stubs.prediction.Predict.future(predict_request(signature="slow", n=np.int32(700)), timeout=60)
    # Answered after the slow one was sent on the same connection, so that one has arrived.
    stubs.prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
    assert not call.done()
    started = time.monotonic()
    server.stop(grace_s=30)
    assert time.monotonic() - started < 20  # the open Watch does not use up the grace
    assert call.result().outputs["total"].float_val
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert list(watch) == []
