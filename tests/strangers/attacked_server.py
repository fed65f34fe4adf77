"""A model server in a process of its own, whose memory, threads and log can be looked at while strangers are at it."""

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ae_search.client import LatentClient

DEADLINE_S = 60


class AttackedServer:
    """One that runs.

    Attributes:
        address: Address of its gRPC port.
        metrics_port: Port of its figures.
        log: What it wrote to stderr.
    """

    def __init__(self, process, address, metrics_port, log):
        self._process, self.address, self.metrics_port, self.log = process, address, metrics_port, log

    def forget_peak(self):
        """Begin to watch the peak of its memory from here."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")
        self._before_mib = self._status("VmRSS") / 1024

    def growth_mib(self):
        """MiB by which its memory has been above what it was."""
        return self._status("VmHWM") / 1024 - self._before_mib

    def threads(self):
        return self._status("Threads")

    def log_lines(self):
        return self.log.read_text(errors="replace").splitlines()

    def call(self, method, data, *, compression=None):
        """Send bytes to a method; return code and text of the answer."""
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.address, options, compression=compression) as channel:
            call = channel.unary_unary(method).future(data, timeout=DEADLINE_S)
            return call.code(), call.details() or ""

    def predict(self, data):
        return self.call("/tensorflow.serving.PredictionService/Predict", data)

    def latents(self):
        """Ask as an honest client does."""
        with LatentClient(self.address, model="tiny") as client:
            return client.encode(np.zeros((2, 16, 16, 3), np.float32))

    @contextmanager
    def answering_others(self):
        """Ask for its health and for latents all the time meanwhile: each must be answered, and soon.

        Both clients ask again where a server that stops has cancelled a call.
        """
        begun, ended, failures, answers = threading.Event(), threading.Event(), [], []

        def ask():
            with grpc.insecure_channel(self.address) as channel, LatentClient(self.address, model="tiny") as client:
                stub = health_pb2_grpc.HealthStub(channel)
                while not ended.is_set() or not answers:
                    try:
                        _check(stub)
                        client.encode(np.zeros((1, 16, 16, 3), np.float32))
                        answers.append(1)
                    except Exception as error:
                        failures.append(error)
                        return
                    finally:
                        begun.set()
                    ended.wait(0.05)

        caller = threading.Thread(target=ask)
        caller.start()
        begun.wait()
        try:
            yield
        finally:
            ended.set()
            caller.join()
        assert not failures, failures
        assert answers

    def _status(self, name):
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(f"{name}:")).split()[1])


def _check(stub, attempts=3):
    try:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED or attempts == 1:
            raise
        _check(stub, attempts - 1)


@contextmanager
def attacked(base_path, log, *, joined=False, **limits):
    """Serve a model base path in a child process, with batching or without, and with `Limits`."""
    arguments = [sys.executable, __file__, str(base_path), json.dumps({"joined": joined, **limits})]
    with log.open("wb") as stderr:
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        answer = process.stdout.readline()
        assert answer, log.read_text()
        address, metrics_port = answer.split()
        server = AttackedServer(process, address, int(metrics_port), log)
        server.forget_peak()
        yield server
        assert process.poll() is None, log.read_text()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _serve():
    import logging

    from ae_search.model_server import Batching, Limits, ModelServer

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    base_path, options = sys.argv[1], json.loads(sys.argv[2])
    batching = Batching() if options.pop("joined") else None
    limits = Limits(**options)
    with ModelServer(base_path, metrics_port=0, batching=batching, drain_s=0.0, limits=limits) as server:
        print(server.address, server.metrics_port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve()
