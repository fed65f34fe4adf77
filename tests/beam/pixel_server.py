"""A model server without TensorFlow: a real gRPC server, whose latents are the pixels, in the model's order."""

import dataclasses
import io
import threading
from concurrent import futures

import grpc
import numpy as np
from PIL import Image

from ae_search.client import wire
from ae_search.contract import ModelCard

CARD = ModelCard(name="pixels", version=1, fingerprint="ab" * 32, image_shape=(4, 4, 1), latent_dim=16)
OTHER = dataclasses.replace(CARD, fingerprint="ef" * 32)
CODES = grpc.StatusCode


class PixelServer(grpc.GenericRpcHandler):
    """Serves the models of `cards` by version; those of `OTHER`'s fingerprint turn the pixels round.

    Attributes:
        before: Called before each request is answered, with the name of its signature and its context.
        most_running: Requests that were under way at once.
    """

    def __init__(self, *cards):
        self.cards = {card.version: card for card in cards or [CARD]}
        self.before = lambda signature, context: None
        self.most_running = self._running = 0
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(32))
        self._server.add_generic_rpc_handlers([self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._server.stop(None).wait()

    def service(self, details):
        answer = self._status if details.method == wire.GET_MODEL_STATUS else self._predict
        return grpc.unary_unary_rpc_method_handler(answer)

    def _status(self, data, context):
        response = wire.GetModelStatusResponse()
        for version in self.cards:
            response.model_version_status.add(version=version, state=30)
        return response.SerializeToString()

    def _predict(self, data, context):
        with self._lock:
            self._running += 1
            self.most_running = max(self.most_running, self._running)
        try:
            return self._answer(wire.PredictRequest.FromString(data), context)
        finally:
            with self._lock:
                self._running -= 1

    def _answer(self, request, context):
        spec = request.model_spec
        self.before(spec.signature_name, context)
        version = spec.version.value or max(self.cards)
        if version not in self.cards:
            context.abort(CODES.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {version})")
        card = self.cards[version]
        response = wire.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = spec.name, version
        if spec.signature_name == "describe":
            response.outputs["model_card"].dtype = wire.DT_STRING
            response.outputs["model_card"].string_val.append(card.to_json().encode())
            return response.SerializeToString()
        pixels = _pixels(request, context).reshape(-1, 16).astype("<f4") / np.float32(255)
        tensor = response.outputs["latents"]
        tensor.dtype = wire.DT_FLOAT
        for size in pixels.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = np.ascontiguousarray(
            pixels[:, :: -1 if card.fingerprint == OTHER.fingerprint else 1]
        ).tobytes()
        return response.SerializeToString()


def _pixels(request, context):
    [(name, tensor)] = request.inputs.items()
    if name == "images":
        return np.frombuffer(tensor.tensor_content, np.uint8)
    pixels = []
    for data in tensor.string_val:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                pixels.append(np.asarray(picture.convert("L").resize((4, 4), Image.Resampling.BOX)))
        except OSError:
            context.abort(CODES.INVALID_ARGUMENT, "jpeg::Uncompress failed. Invalid JPEG data.")
    return np.stack(pixels)
