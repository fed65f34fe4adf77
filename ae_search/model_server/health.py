"""The standard gRPC health service, whose watchers can be let go."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from ae_search.model_server.servicers import MODEL_SERVICE, PREDICTION_SERVICE, register

Status = health_pb2.HealthCheckResponse.ServingStatus
SERVICES = ("", PREDICTION_SERVICE, MODEL_SERVICE)
# Each is a call that does not end.
MAX_WATCHES = 256


class HealthServicer:
    """Health of all services of one server at once: an open Watch ends with the server and does not hold it up."""

    def __init__(self) -> None:
        self._status = Status.Value("NOT_SERVING")
        self._ended = False
        self._watches = 0
        self._changed = asyncio.Event()

    def add_to(self, server: Any) -> None:
        """Answer the requests to a server."""
        request = health_pb2.HealthCheckRequest
        register(server, "grpc.health.v1.Health", {self.Check: request, self.Watch: request})

    def serve(self) -> None:
        """Report SERVING. Call it, and `end`, in the server's event loop."""
        self._set("SERVING")

    def end(self) -> None:
        """Report NOT_SERVING and close every Watch that is open."""
        self._ended = True
        self._set("NOT_SERVING")

    async def Check(self, request: Any, context: Any) -> Any:
        """Return the status now."""
        if not _is_known(request):
            await context.abort(grpc.StatusCode.NOT_FOUND, "")
        return self._response(request)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send the status now and whenever it changes."""
        if self._watches >= MAX_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"At most {MAX_WATCHES} may watch.")
        self._watches += 1
        try:
            async for response in self._changes(request):
                yield response
        finally:
            self._watches -= 1

    async def _changes(self, request: Any) -> AsyncIterator[Any]:
        sent = None
        while True:
            changed, response = self._changed, self._response(request)
            if response != sent:
                sent = response
                yield response
            if self._ended:
                return
            await changed.wait()

    def _set(self, name: str) -> None:
        self._status = Status.Value(name)
        # Those that wait hold the old event.
        self._changed.set()
        self._changed = asyncio.Event()

    def _response(self, request: Any) -> Any:
        status = self._status if _is_known(request) else Status.Value("SERVICE_UNKNOWN")
        return health_pb2.HealthCheckResponse(status=status)


def _is_known(request: Any) -> bool:
    return isinstance(request, health_pb2.HealthCheckRequest) and request.service in SERVICES
