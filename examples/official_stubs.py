"""Latents with TensorFlow Serving's official stubs alone, without ae_search.

usage: python examples/official_stubs.py 127.0.0.1:8500 MODEL IMAGE...

Needs tensorflow-serving-api, and TensorFlow with it. Prints one line of JSON for each image.
"""

import json
import sys
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

TIMEOUT_S = 30.0


def model_card(stub: Any, model: str) -> dict[str, Any]:
    """Return what the model says of itself: its fingerprint, image shape, latent size, metric, ..."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "describe"
    response = stub.Predict(request, timeout=TIMEOUT_S)
    (text,) = tf.make_ndarray(response.outputs["model_card"])
    # The number that the version was exported with; the one that it is served as is response.model_spec.version.
    return json.loads(text) | {"version": response.model_spec.version.value}


def latents(stub: Any, model: str, version: int, files: list[bytes]) -> Any:
    """Return float32 `[n, d]`; one undecodable file fails the request (INVALID_ARGUMENT)."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    # Latents of two versions must not be compared: ask for the one that the index was built with.
    request.model_spec.version.value = version
    request.model_spec.signature_name = "encode_bytes"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(files, dtype=tf.string))
    return tf.make_ndarray(stub.Predict(request, timeout=TIMEOUT_S).outputs["latents"])


def main(server: str, model: str, *images: str) -> None:
    """Print file and latent of each image."""
    # The default for answers is 4 MiB, 8,000 latents of 128 floats.
    options = [("grpc.max_receive_message_length", 64 * 2**20)]
    with grpc.insecure_channel(server, options=options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        card = model_card(stub, model)
        files = [Path(image).read_bytes() for image in images]
        for image, latent in zip(images, latents(stub, model, card["version"], files), strict=True):
            print(json.dumps({"image": image, "version": card["version"], "latent": latent.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
