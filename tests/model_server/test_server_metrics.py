"""Figures for Prometheus, read by its own parser."""

import socket
import time

import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from ae_search.errors import ConfigurationError
from ae_search.model_server import Batching, ModelServer

IMAGES = np.zeros((3, 2, 2, 3), np.float32)
DEADLINE_S = 30


@pytest.fixture
def base(publish, tmp_path):
    path = tmp_path / "m"
    path.mkdir()
    publish(path / "1")
    return path


def test_requests_codes_and_latencies(base, connect, predict_request, scrape):
    with ModelServer(base, metrics_port=0) as server:
        stubs = connect(server)
        for _ in range(4):
            stubs.prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
        for request in (predict_request("other"), predict_request(images=IMAGES[..., :1])):
            stubs.prediction.Predict.future(request, timeout=DEADLINE_S).exception()
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "m"
        stubs.model.GetModelStatus(status, timeout=DEADLINE_S)
        slow = predict_request(signature="slow", n=np.int32(300))
        started = time.perf_counter()
        stubs.prediction.Predict(slow, timeout=DEADLINE_S)
        took_s = time.perf_counter() - started
        figures = scrape(server)
    requests = {key[1:]: value for key, value in figures.items() if key[0] == "ae_search_requests_total"}
    assert requests == {
        ("OK", "Predict"): 5,
        ("NOT_FOUND", "Predict"): 1,
        ("INVALID_ARGUMENT", "Predict"): 1,
        ("OK", "GetModelStatus"): 1,
    }
    assert figures["ae_search_request_seconds_count", "Predict"] == 7
    assert 0.5 * took_s < figures["ae_search_request_seconds_sum", "Predict"] < took_s + 5
    buckets = [value for key, value in figures.items() if key[0] == "ae_search_request_seconds_bucket"]
    assert len(buckets) > 10 and max(buckets) == 7
    assert figures["ae_search_version_loaded", "1"] == 1
    assert figures["ae_search_batch_rows_count",] == 0


def test_requests_in_flight_and_cancelled_ones(base, connect, predict_request, scrape, eventually):
    with ModelServer(base, metrics_port=0) as server:
        slow = predict_request(signature="slow", n=np.int32(500))
        calls = [connect(server).prediction.Predict.future(slow, timeout=DEADLINE_S) for _ in range(2)]
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 2)
        calls[0].cancel()
        eventually(lambda: scrape(server).get(("ae_search_requests_total", "CANCELLED", "Predict")) == 1)
        assert calls[1].result().outputs
        eventually(lambda: scrape(server)["ae_search_requests_in_flight",] == 0)
        assert scrape(server)["ae_search_requests_total", "OK", "Predict"] == 1


def test_the_versions_that_are_loaded(base, publish, scrape, eventually):
    with ModelServer(base, metrics_port=0, poll_interval_s=0.1) as server:
        publish(base / "2")

        def loaded():
            return {key[1] for key in scrape(server) if key[0] == "ae_search_version_loaded"}

        eventually(lambda: loaded() == {"2"})


def test_rows_of_a_joined_run(base, connect, predict_request, scrape):
    with ModelServer(base, metrics_port=0, batching=Batching()) as server:
        for _ in range(2):
            connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
        figures = scrape(server)
    assert figures["ae_search_batch_rows_count",] == 2
    assert figures["ae_search_batch_rows_sum",] == 6
    assert figures["ae_search_batch_rows_bucket", "2.0"] == 0
    assert figures["ae_search_batch_rows_bucket", "4.0"] == 2


def test_two_servers_in_one_process_count_for_themselves(base, connect, predict_request, scrape):
    with ModelServer(base, metrics_port=0) as one, ModelServer(base, metrics_port=0) as two:
        connect(one).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S)
        assert scrape(one)["ae_search_requests_total", "OK", "Predict"] == 1
        assert ("ae_search_requests_total", "OK", "Predict") not in scrape(two)


def test_no_port_unless_asked(base):
    with ModelServer(base) as server:
        assert server.metrics_port is None


def test_a_port_in_use(base, connect, predict_request):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = ModelServer(base, metrics_port=port)
        with pytest.raises(ConfigurationError, match=f"Cannot listen for metrics on 127.0.0.1:{port}"):
            server.start()
    # The port is closed with the server: the next one can have it.
    for _ in range(2):
        with ModelServer(base, metrics_port=port) as server:
            assert connect(server).prediction.Predict(predict_request(images=IMAGES), timeout=DEADLINE_S).outputs
