"""Methods of a gRPC service, which learn of requests that are no message, or one that is not worth reading."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import isasyncgenfunction
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2

from ae_search.model_server.refusal import NO_MESSAGE, RequestRefused
from ae_search.model_server.structure import check_predict_request

# What is read in a moment whatever it holds; the requests of all methods but Predict are below it.
SMALL_BYTES = 64 * 2**10


def register(server: Any, service: str, methods: Mapping[Callable[..., Any], Any]) -> None:
    """Add methods of a service to a server; the others of that service are UNIMPLEMENTED.

    What is generated for a service raises when it cannot read a request, and gRPC logs a traceback each time: a
    stranger can fill the log.

    Args:
        server: A `grpc.aio.Server`.
        service: Full name of the service.
        methods: Class of the request by method, which takes request and context, and is an asynchronous generator where
            it answers with a stream. The request is a `RequestRefused` where it cannot be read.
    """
    handlers = {}
    for method, request in methods.items():
        kind = (
            grpc.unary_stream_rpc_method_handler if isasyncgenfunction(method) else grpc.unary_unary_rpc_method_handler
        )
        handlers[method.__name__] = kind(method, partial(_read, request), _written)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _read(request: Any, data: bytes) -> Any:
    try:
        if len(data) > SMALL_BYTES:
            _check(request, data)
        return request.FromString(data)
    except DecodeError:
        return RequestRefused(grpc.StatusCode.INTERNAL, NO_MESSAGE)
    except RequestRefused as refused:
        return refused


def _check(request: Any, data: bytes) -> None:
    if request is predict_pb2.PredictRequest:
        check_predict_request(data)
    else:
        text = f"The request has {len(data)} bytes; at most {SMALL_BYTES} are accepted for this method."
        raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, text)


def _written(response: Any) -> Any:
    return response.SerializeToString()
