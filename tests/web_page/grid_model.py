"""A real gRPC model server without TensorFlow: the latent of an image is its colours on a grid of 4 by 4."""

import dataclasses
import io
import time
from concurrent import futures

import grpc
import numpy as np
from PIL import Image

from ae_search.client import wire
from ae_search.client.tensors import fill_tensor
from ae_search.contract import ModelCard

SIDE_PX, CELLS = 16, 4
CARD = ModelCard("grid", 1, "ab" * 32, (SIDE_PX, SIDE_PX, 3), CELLS * CELLS * 3, decodes=True)
# The latents of the second version are those of the first in reverse.
CARDS = {1: CARD, 2: dataclasses.replace(CARD, version=2, fingerprint="cd" * 32)}


def latents_of(pixels, version=1):
    """Return the latents of uint8 `[n, 16, 16, 3]`."""
    n, cell = len(pixels), SIDE_PX // CELLS
    cells = np.asarray(pixels, np.float32).reshape(n, CELLS, cell, CELLS, cell, 3).mean(axis=(2, 4))
    return (cells.reshape(n, -1) / 255 - 0.5)[:, :: 1 if version == 1 else -1]


def pictures_of(latents, version=1):
    """Return what latents `[n, 48]` hold of their images, float32 `[n, 16, 16, 3]` in [0, 1]."""
    cells = np.asarray(latents, np.float32)[:, :: 1 if version == 1 else -1].reshape(-1, CELLS, CELLS, 3)
    cell = SIDE_PX // CELLS
    return np.clip(cells + 0.5, 0, 1).repeat(cell, axis=1).repeat(cell, axis=2)


def seen(data):
    """Return an image file as the model takes it."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


class GridModel(grpc.GenericRpcHandler):
    """Serves the versions of `served`; may be slow, and may be stopped and started again on its port."""

    def __init__(self):
        self.served, self.delay_s, self.port = [1], 0.0, 0
        self.start()

    def start(self):
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([self])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def service(self, details):
        answers = {wire.PREDICT: self.predict, wire.GET_MODEL_STATUS: self.status}
        return grpc.unary_unary_rpc_method_handler(answers[details.method])

    def status(self, data, context):
        response = wire.GetModelStatusResponse()
        for version in self.served:
            response.model_version_status.add(version=version, state=30)
        return response.SerializeToString()

    def predict(self, data, context):
        request = wire.PredictRequest.FromString(data)
        version = request.model_spec.version.value or max(self.served)
        if version not in self.served:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific(grid, {version})")
        response = wire.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = "grid", version
        if request.model_spec.signature_name == "describe":
            fill_tensor(response.outputs["model_card"], "model_card", [CARDS[version].to_json()])
        elif request.model_spec.signature_name == "decode":
            latents = np.frombuffer(request.inputs["latents"].tensor_content, np.float32).reshape(-1, CARD.latent_dim)
            fill_tensor(response.outputs["images"], "images", pictures_of(latents, version))
        else:
            time.sleep(self.delay_s)
            fill_tensor(response.outputs["latents"], "latents", latents_of(pixels_of(request, context), version))
        return response.SerializeToString()


def pixels_of(request, context):
    [(name, tensor)] = request.inputs.items()
    if name == "images":
        dtype, scale = (np.uint8, 1) if request.model_spec.signature_name == "encode_uint8" else (np.float32, 255)
        return np.frombuffer(tensor.tensor_content, dtype).reshape(-1, SIDE_PX, SIDE_PX, 3) * scale
    try:
        return np.stack([seen(data) for data in tensor.string_val])
    except OSError:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "jpeg::Uncompress failed. Invalid JPEG data.")
