"""The options of `ae-search serve`: what reaches the server, and what is refused in one line."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2

from ae_search import cli

SERVE = [sys.executable, "-m", "ae_search", "serve"]
IMAGES = np.random.default_rng(8).random((2, 2, 2, 3), np.float32)
DEADLINE_S = 60


@pytest.fixture
def base(publish, tmp_path):
    path = tmp_path / "fashion"
    path.mkdir()
    publish(path / "1")
    return path


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run `ae-search serve` with these arguments, which must fail; return exit code and the lines of stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)

    def refused(*arguments):
        monkeypatch.setattr(sys, "argv", ["ae-search", "serve", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        assert output.out == ""
        return ended.value.code, output.err

    yield refused
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def serving(base, *options):
    """`ae-search serve` as a process; yields the process and its address."""
    command = [*SERVE, str(base), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield SimpleNamespace(process=process, address=line.split()[-1])
        finally:
            process.kill()


def test_sigterm_lets_requests_under_way_end(base, publish, connect, predict_request):
    """With every option that shapes the answers given: they arrive at the server."""
    publish(base / "2", seed=2)
    options = ["--name", "clothes", "--version-policy", "all", "--label", "stable=1", "--grpc-max-threads", "3"]
    options += ["--enable-serialization-as-tensor-content", "--max-message-mib", "1", "--drain-s", "50"]
    with serving(base, *options) as server:
        stubs = connect(server)
        watch = stubs.health.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        labelled = predict_request("clothes", images=IMAGES)
        labelled.model_spec.version_label = "stable"
        answer = stubs.prediction.Predict(labelled, timeout=DEADLINE_S)
        assert (answer.model_spec.name, answer.model_spec.version.value) == ("clothes", 1)
        assert answer.outputs["latents"].tensor_content
        large = stubs.prediction.Predict.future(predict_request("clothes", images=np.zeros((2**17, 2, 2, 3))))
        assert large.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

        slow = predict_request("clothes", signature="slow", n=np.int32(500))
        calls = [stubs.prediction.Predict.future(slow, timeout=DEADLINE_S) for _ in range(3)]
        # Refused because the three have arrived; on the same connection, after them.
        fourth = stubs.prediction.Predict.future(predict_request("clothes", images=IMAGES), timeout=DEADLINE_S)
        assert fourth.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert list(watch) == []
        late = connect(server).prediction.Predict.future(predict_request("clothes", images=IMAGES), timeout=DEADLINE_S)
        assert late.code() == grpc.StatusCode.UNAVAILABLE
        assert all(call.result().model_spec.version.value == 2 for call in calls)
        assert server.process.wait(timeout=30) == 0
        assert "Traceback" not in (text := server.process.stderr.read()), text


def test_batching_tls_and_metrics(base, connect, predict_request, tmp_path, scrape, eventually):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    pem, key = tmp_path / "server.pem", tmp_path / "server.key"
    certificate.cert_chain_pems[0].write_to_path(pem)
    certificate.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    options = ["--batching", "--max-batch-size", "2", "--tls-cert", str(pem), "--tls-key", str(key)]
    with serving(base, *options, "--metrics-port", "0") as server:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(server.address, credentials) as channel:
            stub = connect(SimpleNamespace(channel=channel)).prediction
            assert stub.Predict(predict_request("fashion", images=IMAGES), timeout=DEADLINE_S).outputs
            three = predict_request("fashion", images=np.zeros((3, 2, 2, 3), np.float32))
            details = stub.Predict.future(three, timeout=DEADLINE_S).details()
            assert details == "Task size 3 is larger than maximum input batch size 2"
        logged = iter(server.process.stderr)
        metrics = next(line for line in logged if "/metrics" in line)
        port = int(metrics.rpartition(":")[2].partition("/")[0])
        assert scrape(SimpleNamespace(metrics_port=port))["ae_search_batch_rows_sum",] == 2
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--version-policy", "newest"], "A version policy is latest:N, all or specific:V,V"),
        (["--version-policy", "specific:9"], "has none of specific:9; there: 1."),
        (["--label", "stable"], "A label is NAME=VERSION"),
        (["--label", "a=1", "--label", "a=2"], "The label 'a' is given twice"),
        (["--label", "canary=2"], "The label 'canary' names version 2, which is not available"),
        (["--tls-cert", "x.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["--tls-client-ca", "x.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["--tls-cert", "no.pem", "--tls-key", "no.key"], "The TLS file no.pem cannot be read"),
        (["--backend", "tensorflow-serving"], "tensorflow_model_server is not on PATH"),
        (["--backend", "tensorflow-serving", "--drain-s", "10"], "has no option for --drain-s"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_values_are_told_in_one_line(base, refused, monkeypatch, tmp_path, arguments, named):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = refused(base, "--port", 0, *arguments)
    assert code == 1
    assert text.startswith("error: ") and text.count("\n") == 1
    assert named in text


def test_no_model_is_told_in_one_line(refused, tmp_path):
    code, text = refused(tmp_path / "missing", "--port", 0)
    assert (code, text.count("\n")) == (1, 1)
    assert "cannot be read" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "65536"],
        ["--port", "-1"],
        ["--metrics-port", "65536"],
        ["--grpc-max-threads", "0"],
        ["--max-batch-size", "0"],
        ["--batch-timeout-micros", "-1"],
        ["--max-enqueued-batches", "0"],
        ["--max-message-mib", "0"],
        ["--max-message-mib", "2048"],
        ["--drain-s", "-1"],
        ["--backend", "pytorch"],
        ["--labels", "a=1"],
    ],
    ids=" ".join,
)
def test_wrong_usage(base, refused, arguments):
    code, text = refused(base, *arguments)
    assert code == 2
    assert arguments[0] in text


@pytest.mark.serving
def test_the_real_backend(base, connect, predict_request, oracle, eventually):
    """`--backend tensorflow-serving` with a model configuration, batching and content, read by the real one."""
    import tensorflow as tf
    from targets import BINARY, free_port

    if not shutil.which(BINARY):
        pytest.skip(f"no {BINARY} on PATH")
    options = ["--backend", "tensorflow-serving", "--port", str(free_port()), "--metrics-port", str(free_port())]
    options += ["--version-policy", "latest:2", "--label", "stable=1", "--batching", "--grpc-max-threads", "8"]
    options += ["--enable-serialization-as-tensor-content"]
    with subprocess.Popen([*SERVE, str(base), *options], env=os.environ) as process:
        try:
            address = f"127.0.0.1:{options[3]}"
            request = predict_request("fashion", images=IMAGES)
            request.model_spec.version_label = "stable"
            stub = connect(SimpleNamespace(address=address)).prediction

            def answers():
                assert process.poll() is None
                return stub.Predict.future(request, timeout=DEADLINE_S).code() == grpc.StatusCode.OK

            eventually(answers, timeout_s=60)
            output = stub.Predict(request, timeout=DEADLINE_S).outputs["latents"]
            assert output.tensor_content
            np.testing.assert_allclose(tf.make_ndarray(output), oracle(IMAGES), rtol=1e-5, atol=1e-5)
        finally:
            process.terminate()
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
