"""Servers that start, stop and fail to start."""

import gc
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from ae_search.errors import ConfigurationError
from ae_search.model_server import Batching, Labels, ModelServer

C = grpc.StatusCode
IMAGES = np.random.default_rng(8).random((2, 2, 2, 3), np.float32)
POLL_S = 0.05
DEADLINE_S = 60


@pytest.fixture
def base(publish, tmp_path):
    path = tmp_path / "m"
    path.mkdir()
    publish(path / "1")
    return path


@pytest.fixture
def left_over():
    """The threads that a test has not brought to an end."""
    before = set(threading.enumerate())
    return lambda: {
        thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith(("model-", "predict"))
    }


@pytest.mark.parametrize("batching", [None, Batching()], ids=["alone", "joined"])
def test_stopping_under_load_answers_all_that_it_took(
    base, connect, predict_request, scrape, eventually, left_over, batching
):
    server = ModelServer(base, batching=batching, workers=16, metrics_port=0)
    server.start()
    stub = connect(server).prediction
    outcomes, done = Counter(), threading.Event()

    def ask():
        while not done.is_set():
            call = stub.Predict.future(predict_request(images=IMAGES), timeout=DEADLINE_S)
            outcomes[call.code()] += 1

    callers = [threading.Thread(target=ask) for _ in range(8)]
    for caller in callers:
        caller.start()
    eventually(lambda: outcomes[C.OK] > 50)
    server.stop(grace_s=30)
    answered = {key: value for key, value in figures(server).items() if key[0] == "Predict"}
    eventually(lambda: outcomes[C.UNAVAILABLE] > 50)
    done.set()
    for caller in callers:
        caller.join()
    # CANCELLED is what gRPC itself answers to those that arrive while it closes the connection.
    assert set(outcomes) <= {C.OK, C.UNAVAILABLE, C.CANCELLED}
    assert outcomes[C.CANCELLED] <= len(callers)
    assert answered == {("Predict", "OK"): outcomes[C.OK]}
    server.stop()
    eventually(lambda: not left_over())


def figures(server):
    """The count by method and code, also after the port is closed."""
    samples = [sample for family in server._metrics._requests.collect() for sample in family.samples]
    return {
        (sample.labels["method"], sample.labels["code"]): sample.value
        for sample in samples
        if sample.name.endswith("_total")
    }


def test_what_takes_longer_than_the_grace_is_cut_off(base, connect, predict_request, eventually, scrape):
    server = ModelServer(base, metrics_port=0)
    server.start()
    slow = predict_request(signature="slow", n=np.int32(4000))
    call = connect(server).prediction.Predict.future(slow, timeout=DEADLINE_S)
    eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 1)
    started = time.monotonic()
    server.stop(grace_s=0.2)
    assert time.monotonic() - started < 2
    assert call.code() in (C.UNAVAILABLE, C.CANCELLED)


def test_starts_once(base, publish, tmp_path, connect, predict_request, left_over, eventually):
    server = ModelServer(base)
    with server:
        with pytest.raises(RuntimeError, match="started once"):
            server.start()
        assert connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs
    with pytest.raises(RuntimeError, match="started once"):
        server.start()
    late = ModelServer(tmp_path / "late")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        late.start()
    # Otherwise it would serve, and never look for newer versions.
    with pytest.raises(RuntimeError, match="make another one"):
        late.start()
    eventually(lambda: not left_over())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"labels": Labels({"canary": 9})}, ConfigurationError),
        ({"host": "192.0.2.1"}, ConfigurationError),
        ({"metrics_port": 1, "host": "192.0.2.1"}, ConfigurationError),
    ],
    ids=str,
)
def test_a_failed_start_leaves_nothing_behind(base, left_over, eventually, options, error):
    with pytest.raises(error):
        ModelServer(base, **{"metrics_port": 0, **options}).start()
    eventually(lambda: not left_over())


@pytest.mark.parametrize(
    "wrong", [{"port": 70_000}, {"metrics_port": -1}, {"workers": 0}, {"max_message_mib": 2048}], ids=str
)
def test_numbers_out_of_range(base, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be from"):
        ModelServer(base, **wrong)


def test_the_port_is_free_again(base, connect, predict_request):
    with ModelServer(base) as first:
        pass
    with ModelServer(base, port=first.port) as second:
        assert second.port == first.port
        assert connect(second).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs


def test_two_servers_in_one_process(base, publish, tmp_path, connect, predict_request, oracle):
    other = tmp_path / "other"
    other.mkdir()
    publish(other / "4", seed=2)
    with ModelServer(base) as one:
        with ModelServer(other) as two:
            assert (
                connect(two).prediction.Predict(predict_request("other", images=IMAGES)).model_spec.version.value == 4
            )
            with pytest.raises(grpc.RpcError) as caught:
                connect(two).prediction.Predict(predict_request("m", images=IMAGES), timeout=DEADLINE_S)
            assert caught.value.code() == C.NOT_FOUND
        # The end of one is not the end of the other.
        assert connect(one).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs
        assert connect(one).health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S).status == 1


@pytest.mark.parametrize("batching", [None, Batching()], ids=["alone", "joined"])
def test_old_versions_are_freed(base, publish, connect, predict_request, eventually, batching):
    """After requests of every kind, answered, refused and cut off by their deadline."""
    with ModelServer(base, poll_interval_s=POLL_S, batching=batching) as server:
        stub = connect(server).prediction
        freed = []
        for version in range(2, 5):
            freed.append(weakref.ref(server._versions.servable()))
            for request in (
                predict_request(images=IMAGES),
                predict_request(signature="encode_bytes", image_bytes=[b"no image"]),
                predict_request(images=IMAGES[..., :1]),
            ):
                stub.Predict.future(request, timeout=DEADLINE_S).exception()
            stub.Predict.future(predict_request(signature="slow", n=np.int32(300)), timeout=0.01).exception()
            publish(base / str(version), seed=1 + version % 2)
            eventually(lambda: server.version == version)  # noqa: B023
        eventually(lambda: (gc.collect(), [ref() for ref in freed])[1] == [None] * 3)
        states = [status.state.name for status in server._versions.statuses()]
        assert states == ["AVAILABLE"] + ["END"] * 3


def test_folders_that_vanish_while_they_are_looked_at(base, publish, connect, predict_request, eventually, tmp_path):
    """Versions come and go faster than the server looks; it stays at its work."""
    with ModelServer(base, poll_interval_s=0.01) as server:
        stub = connect(server).prediction
        for number in range(2, 8):
            folder = publish(base / str(number))
            eventually(lambda: any(s.version == number for s in server._versions.statuses()))  # noqa: B023
            shutil.rmtree(folder)
            assert stub.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs
        publish(base / "9", seed=2)
        eventually(lambda: server.version == 9)


@pytest.mark.slow
def test_a_server_that_is_never_stopped_does_not_keep_its_process(base):
    code = f"from ae_search.model_server import ModelServer; ModelServer({str(base)!r}).start()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
