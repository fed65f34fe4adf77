"""In one process with TensorFlow and the official stubs, and in one that has neither."""

import subprocess
import sys

import pytest

OURS = """
import asyncio
import numpy as np
from ae_search.client import AsyncLatentClient, LatentClient

def ask_ours():
    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)
    with LatentClient(TARGET, "pixels", timeout_s=20) as client:
        assert client.describe().version == 3
        assert client.status()[0].state == "AVAILABLE"
        blocking = client.encode(pixels)
    async def ask():
        async with AsyncLatentClient(TARGET, "pixels", timeout_s=20) as client:
            return await client.encode(pixels)
    np.testing.assert_array_equal(blocking, pixels.reshape(3, 16) / np.float32(255))
    np.testing.assert_array_equal(asyncio.run(ask()), blocking)
    return blocking
"""
THEIRS = """
import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

def ask_theirs():
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "pixels", "encode_uint8"
    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(pixels))
    with grpc.insecure_channel(TARGET) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
    return tf.make_ndarray(response.outputs["latents"])
"""
COMPARE = "np.testing.assert_array_equal(ask_ours(), ask_theirs())\nask_ours()\n"
WITHOUT = """
import sys
for blocked in ("tensorflow", "tensorflow_serving", "keras", "tensorboard", "h5py"):
    sys.modules[blocked] = None
"""
PROGRAMS = {
    "ours first": OURS + THEIRS + COMPARE,
    "theirs first": THEIRS + OURS + COMPARE,
    "without TensorFlow": WITHOUT + OURS + "ask_ours()\n",
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.slow
def test_our_client_answers_beside_tensorflow_and_without_it(serve, script, program):
    code = f"TARGET = '127.0.0.1:{serve(script)}'\n" + PROGRAMS[program]
    result = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(script.asked_for("encode_uint8")) >= 2
