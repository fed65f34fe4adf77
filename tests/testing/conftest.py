"""The fixtures of `ae_search.testing`, imported as a user may do it, and official stubs."""

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from ae_search.testing.fixtures import healthy_model_server, model_server, serve_model, tiny_model

__all__ = ["healthy_model_server", "model_server", "serve_model", "tiny_model"]


@pytest.fixture
def stubs(model_server):
    """Stubs to the server under test, which look for a server that is away several times a second."""
    options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.initial_reconnect_backoff_ms", 50)]
    with grpc.insecure_channel(model_server.address, options) as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


def _ask(stub, **options):
    import tensorflow as tf

    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    return stub.Predict(request, **options)


@pytest.fixture
def predict(stubs):
    """Ask for the latents of two images; return the answer."""
    return lambda timeout_s=30.0, **options: _ask(stubs[0], timeout=timeout_s, **options)


@pytest.fixture
def outcome(predict):
    """Ask once; return "OK" or the name of the status."""
    return lambda timeout_s=30.0: _outcome(lambda: predict(timeout_s))


@pytest.fixture
def outcome_of():
    """Ask a server once over a connection of its own; return "OK" or the name of the status."""

    def outcome_of(server):
        with grpc.insecure_channel(server.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return _outcome(lambda: _ask(stub, timeout=30))

    return outcome_of


def _outcome(ask):
    try:
        ask()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"
