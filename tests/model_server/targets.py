"""The servers that the contract is tested on: the embedded one, and a real TensorFlow Serving where there is one.

The real one is `tensorflow_model_server` where that is on PATH: the tests start it, through the command of `ae-search
serve --backend tensorflow-serving`. Or it is one that runs already: AE_SEARCH_TF_SERVING=HOST:PORT, and the folder that
it serves as this machine sees it in AE_SEARCH_TF_SERVING_MODELS. That is the model base path, the folder of the version
folders, named like the model; start the server with `--model_name=NAME --model_base_path=.../NAME`. The tests put
versions there, numbered on from the highest one, and remove them afterwards.
"""

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc

from ae_search.model_server import ModelServer
from ae_search.model_server.tensorflow_serving import BINARY, command

RUNNING, MODELS = "AE_SEARCH_TF_SERVING", "AE_SEARCH_TF_SERVING_MODELS"
REAL = pytest.param("real", marks=pytest.mark.serving)
SKIPPED = f"no {BINARY} on PATH, and neither {RUNNING} nor {MODELS} is set"
HANDED_OUT = {}
State = get_model_status_pb2.ModelVersionStatus.State


class Target:
    """A server on a model base path, seen through the official stubs.

    Attributes:
        base: The base path.
        name: The model's name.
        address: Host and port, `127.0.0.1:8500` for instance.
        version: The version that was there when the tests began.
    """

    def __init__(self, base, address, version):
        self.base, self.name, self.address, self.version = base, base.name, address, version
        self.channel = grpc.insecure_channel(address)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def statuses(self):
        """State and error by version, in the server's order; empty while it knows none."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.name
        try:
            answer = self.model.GetModelStatus(request, timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            return {}
        return {s.version: (State.Name(s.state), s.status.error_message) for s in answer.model_version_status}

    def is_healthy(self):
        return self.health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == 1


def skip_without(kind):
    if kind == "real" and not (RUNNING in os.environ and MODELS in os.environ) and not shutil.which(BINARY):
        pytest.skip(SKIPPED)


@contextmanager
def running(kind, base, publish, eventually, workers=None, batching=None):
    """Serve a first version, from `base` or where the server that runs already looks."""
    skip_without(kind)
    if batching and kind == "real" and RUNNING in os.environ:
        pytest.skip("whether the server that runs already joins requests is not known")
    with ExitStack() as ended:
        if kind == "real" and RUNNING in os.environ:
            base, address = Path(os.environ[MODELS]), os.environ[RUNNING]
            before = {folder.name for folder in base.iterdir()}
            ended.callback(lambda: [shutil.rmtree(new) for new in base.iterdir() if new.name not in before])
        first = free_version(base)
        publish(base / str(first))
        if kind == "embedded":
            address = ended.enter_context(
                ModelServer(base, poll_interval_s=0.1, workers=workers, batching=batching)
            ).address
        elif RUNNING not in os.environ:
            address = f"127.0.0.1:{free_port()}"
            arguments = command(base, port=int(address.partition(":")[2]), workers=workers, batching=batching)
            # Its configuration is in files that it inherits.
            process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False)
            ended.callback(process.wait)
            ended.callback(process.terminate)
        target = Target(base, address, first)
        ended.callback(target.channel.close)
        eventually(lambda: target.statuses().get(first, ("",))[0] == "AVAILABLE")
        yield target


def free_version(base):
    """A number that this server has not seen yet, and neither the nine after it."""
    there = [int(folder.name) for folder in base.iterdir() if folder.name.isdigit()]
    HANDED_OUT[base] = max([*there, HANDED_OUT.get(base, 0)]) + 10
    return HANDED_OUT[base]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
