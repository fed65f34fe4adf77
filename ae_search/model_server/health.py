"""The standard gRPC health service, whose watchers can be let go."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Status = health_pb2.HealthCheckResponse.ServingStatus
SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Health of all services of one server at once: an open Watch ends with the server and does not hold it up."""

    def __init__(self) -> None:
        self._status = Status.Value("NOT_SERVING")
        self._ended = False
        self._changed = asyncio.Event()

    def serve(self) -> None:
        """Report SERVING. Call it, and `end`, in the server's event loop."""
        self._set("SERVING")

    def end(self) -> None:
        """Report NOT_SERVING and close every Watch that is open."""
        self._ended = True
        self._set("NOT_SERVING")

    async def Check(self, request: Any, context: Any) -> Any:
        """Return the status now."""
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "")
        return self._response(request.service)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send the status now and whenever it changes."""
        sent = None
        while True:
            changed, response = self._changed, self._response(request.service)
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

    def _response(self, service: str) -> Any:
        known = service in SERVICES
        return health_pb2.HealthCheckResponse(status=self._status if known else Status.Value("SERVICE_UNKNOWN"))
