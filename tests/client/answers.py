"""Answers of a model server as bytes, on ae-search's own messages: for processes without TensorFlow, and for fuzzing.

tests/client/test_client.py compares these messages with the official ones.
"""

from concurrent import futures

import grpc
import numpy as np

from ae_search.client import wire
from ae_search.contract import ModelCard

CARD = ModelCard(name="pixels", version=3, fingerprint="cd" * 32, image_shape=(4, 4, 1), latent_dim=16)


def card_answer(text=None, version=3):
    response = wire.PredictResponse()
    response.model_spec.name, response.model_spec.version.value = "pixels", version
    response.outputs["model_card"].dtype = wire.DT_STRING
    response.outputs["model_card"].string_val.append(CARD.to_json().encode() if text is None else text)
    return response.SerializeToString()


def latents_answer(latents, version=3, *, as_content=False):
    response = wire.PredictResponse()
    response.model_spec.name, response.model_spec.version.value = "pixels", version
    tensor = response.outputs["latents"]
    tensor.dtype = wire.DT_FLOAT
    for size in latents.shape:
        tensor.tensor_shape.dim.add(size=size)
    if as_content:
        tensor.tensor_content = np.asarray(latents, "<f4").tobytes()
    else:
        tensor.float_val.extend(latents.ravel().tolist())
    return response.SerializeToString()


def status_answer():
    response = wire.GetModelStatusResponse()
    response.model_version_status.add(version=3, state=30)
    response.model_version_status.add(version=2, state=50).status.error_message = "ended"
    return response.SerializeToString()


def good_answer(method, data):
    """What a good server answers: the latents are the pixels, uint8 in [0, 255]."""
    if method == wire.GET_MODEL_STATUS:
        return status_answer()
    request = wire.PredictRequest.FromString(data)
    if request.model_spec.signature_name == "describe":
        return card_answer()
    pixels = np.frombuffer(request.inputs["images"].tensor_content, np.uint8)
    return latents_answer(pixels.reshape(-1, 16).astype(np.float32) / 255)


class Bytes(grpc.GenericRpcHandler):
    """Answers each call with the bytes that a function makes of its method and its request."""

    def __init__(self, answer):
        self.answer = answer

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda data, context: self.answer(details.method, data))


def start(answer, address="127.0.0.1:0", *, credentials=None, options=()):
    """Start a server of bytes; return it and its port."""
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers([Bytes(answer)])
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, port
