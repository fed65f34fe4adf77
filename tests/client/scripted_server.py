"""A real gRPC server whose Predict is scripted by the test, on the official stubs."""

import io
import json
import threading
import time
from concurrent import futures

import grpc
import numpy as np
from PIL import Image
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ae_search.contract import ModelCard

CARD = ModelCard(name="pixels", version=3, fingerprint="cd" * 32, image_shape=(4, 4, 1), latent_dim=16)
FLOAT, STRING = 1, 7


def latents_of(pixels):
    """The scripted model: the pixels themselves, in [0, 1]."""
    return (pixels.astype(np.float32) / 255.0 if pixels.dtype == np.uint8 else pixels).reshape(len(pixels), 16)


class Script(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Answers as a good server does until a test sets one of its attributes."""

    def __init__(self):
        self.as_content = False
        self.spoil = None  # changes a good PredictResponse for latents
        self.code = None  # what to abort with
        self.delay_s = 0.0
        self.refuse = None  # called with request and context before they are answered
        self.card = CARD.to_json()
        self.served = [3]
        self.labels = {}
        self.requests, self.metadata = [], []
        self.running = self.most_running = 0
        self.lock = threading.Lock()

    def Predict(self, request, context):
        with self.lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            return self.answer(request, context)
        finally:
            with self.lock:
                self.running -= 1

    def answer(self, request, context):
        time.sleep(self.delay_s)
        if self.code is not None:
            context.abort(self.code, "as the test said")
        if self.refuse is not None:
            self.refuse(request, context)
        spec = request.model_spec
        label = spec.version_label
        if label and label not in self.labels:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        version = self.labels[label] if label else spec.version.value or max(self.served)
        if spec.name != "pixels" or version not in self.served:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {version})"
            )
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = spec.name, version
        if spec.signature_name == "describe":
            card = json.loads(self.card) if self.card.startswith("{") else None
            response.outputs["model_card"].dtype = STRING
            response.outputs["model_card"].string_val.append(json.dumps(card).encode() if card else self.card.encode())
            return response
        latents = self.latents(self._pixels(request, context), version)
        tensor = response.outputs["latents"]
        tensor.dtype = FLOAT
        for size in latents.shape:
            tensor.tensor_shape.dim.add(size=size)
        if self.as_content:
            tensor.tensor_content = latents.tobytes()
        else:
            tensor.float_val.extend(latents.ravel().tolist())
        if self.spoil:
            self.spoil(response)
        return response

    def latents(self, pixels, version):
        return latents_of(pixels)

    def asked_for(self, signature):
        """The requests for a signature, of all so far."""
        return [request for request in self.requests if request.model_spec.signature_name == signature]

    def _pixels(self, request, context):
        import tensorflow as tf

        [(name, tensor)] = request.inputs.items()
        values = tf.make_ndarray(tensor)
        if name == "images":
            assert values.dtype == (np.uint8 if request.model_spec.signature_name == "encode_uint8" else np.float32)
            return values
        pixels = []
        for data in values:
            try:
                pixels.append(np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((4, 4)))[..., None])
            except OSError:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "jpeg::Uncompress failed. Invalid JPEG data.")
        return np.stack(pixels)

    def GetModelStatus(self, request, context):
        if request.model_spec.name != "pixels":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in ((3, 30), (2, 50)):
            response.model_version_status.add(version=version, state=state)
        response.model_version_status[1].status.error_message = "ended"
        return response


def rows_of(request):
    """How many images a request carries."""
    return sum(tensor.tensor_shape.dim[0].size for tensor in request.inputs.values())


def start(script, address="127.0.0.1:0", *, credentials=None, options=()):
    """Start a server for a script; return it and its port."""
    server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(script, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(script, server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, port
