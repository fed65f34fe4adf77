"""The standard gRPC health service, with an end."""

import threading
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health

Send = Callable[[Any], None]


class HealthServicer(health.HealthServicer):
    """Health whose watchers can be let go: an open Watch would use up the whole grace of a stopping server."""

    def __init__(self) -> None:
        super().__init__()
        self._watchers: set[Send] = set()
        self._watchers_lock = threading.Lock()

    def Watch(self, request: Any, context: Any, send_response_callback: Send | None = None) -> Any:
        """Send the status now and whenever it changes."""
        if send_response_callback is None:
            return super().Watch(request, context)
        forward = send_response_callback

        def send(response: Any) -> None:
            with self._watchers_lock:
                if send not in self._watchers:  # ended already; gRPC fails on a second end
                    return
                if response is None:
                    self._watchers.discard(send)
            forward(response)

        with self._watchers_lock:
            self._watchers.add(send)
        return super().Watch(request, context, send)

    def end_watches(self) -> None:
        """Close every Watch that is open."""
        with self._watchers_lock:
            watchers = list(self._watchers)
        for send in watchers:
            send(None)
