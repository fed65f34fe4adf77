"""`ae-search serve`, as a process."""

import os
import signal
import stat
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ae_search.errors import ConfigurationError
from ae_search.model_server.tensorflow_serving import command

SERVE = [sys.executable, "-c", "import typer; from ae_search.cli.serve import serve; typer.run(serve)"]


@pytest.fixture
def base(publish, tmp_path):
    path = tmp_path / "fashion"
    path.mkdir()
    publish(path / "1")
    return path


@pytest.fixture
def binary(tmp_path, monkeypatch):
    """A `tensorflow_model_server` that says how it was called."""
    path = tmp_path / "bin" / "tensorflow_model_server"
    path.parent.mkdir()
    path.write_text('#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
    return path


@pytest.mark.slow
def test_ends_in_time_although_the_model_runs_on(base, connect, predict_request):
    """A run cannot be interrupted: this one would take a minute."""
    command = [*SERVE, str(base), "--port", "0", "--drain-s", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("serving fashion version 1 on 127.0.0.1:")
        server = SimpleNamespace(address=line.split()[-1])
        images = np.zeros((1, 2, 2, 3), np.float32)
        answer = connect(server).prediction.Predict(predict_request("fashion", images=images), timeout=30)
        assert answer.model_spec.version.value == 1
        prediction = connect(server).prediction
        running = prediction.Predict.future(predict_request("fashion", "slow", n=np.int32(100_000)), timeout=60)
        # Answered after the long one was sent on the same connection, so that one has arrived.
        prediction.Predict(predict_request("fashion", images=images), timeout=30)
        assert not running.done()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert process.stdout.read() == ""


def test_becomes_tensorflow_serving(base, binary):
    options = ["--backend", "tensorflow-serving", "--port", "8511", "--name", "clothes", "--max-message-mib", "1"]
    run = subprocess.run([*SERVE, str(base), *options], capture_output=True, text=True, timeout=60, check=True)
    expected = ["--port=8511", "--rest_api_port=0", "--enable_grpc_healthcheck_service=true"]
    expected += ["--model_name=clothes", f"--model_base_path={base}"]
    lengths = "grpc.max_receive_message_length=1048576,grpc.max_send_message_length=1048576"
    assert run.stdout.split() == [*expected, f"--grpc_channel_arguments={lengths}"]


def test_command(base, binary, monkeypatch, caplog):
    monkeypatch.chdir(base.parent)
    arguments = command("fashion", host="127.0.0.1", port=9000, enable_serialization_as_tensor_content=True)
    assert arguments[0] == str(binary)
    assert f"--model_base_path={base}" in arguments
    assert "--model_name=fashion" in arguments
    assert arguments[-1] == "--enable_serialization_as_tensor_content=true"
    assert "port 9000 is open on every interface" in caplog.text


def test_command_without_the_binary(base, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="tensorflow_model_server is not on PATH; install"):
        command(base)
    with pytest.raises(ConfigurationError, match="is a SavedModel and no model base path"):
        command(tmp_path / "fashion" / "1")
