"""Methods of a gRPC service, which learn of requests that are no message."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import isasyncgenfunction
from typing import Any

import grpc
from google.protobuf.message import DecodeError


def register(server: Any, service: str, methods: Mapping[Callable[..., Any], Any]) -> None:
    """Add methods of a service to a server; the others of that service are UNIMPLEMENTED.

    What is generated for a service raises when it cannot read a request, and gRPC logs a traceback each time: a
    stranger can fill the log.

    Args:
        server: A `grpc.aio.Server`.
        service: Full name of the service.
        methods: Class of the request by method, which takes request and context, and is an asynchronous generator where
            it answers with a stream. The request is None where it is no message of its class.
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
        return request.FromString(data)
    except DecodeError:
        return None


def _written(response: Any) -> Any:
    return response.SerializeToString()
