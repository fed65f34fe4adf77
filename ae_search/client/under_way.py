"""The requests of one blocking call that are under way, each sent again where that helps."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from ae_search.client.requests import Outcome, Request
from ae_search.client.retrying import Attempts
from ae_search.client.rpc_errors import closed, from_rpc

# Starts an attempt at a request: the call, as gRPC's future.
Start = Callable[[Request, Attempts], Any]


class UnderWay:
    """A queue of requests; those behind the first are sent again, too, while the first is waited for.

    Args:
        start: Starts one attempt.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._queue: deque[_Sent] = deque()
        self._changed = threading.Event()

    def send(self, request: Request, attempts: Attempts) -> None:
        """Put a request on its way."""
        self._queue.append(_Sent(request, attempts, self._begun(request, attempts)))

    def take(self) -> Outcome:
        """Wait for what becomes of the first request, and return it."""
        first = self._queue[0]
        while True:
            self._changed.clear()
            for sent in self._queue:
                self._look_at(sent)
            if first.outcome is not None:
                self._queue.popleft()
                return first.outcome
            times = [sent.again_at for sent in self._queue if sent.call is None and sent.outcome is None]
            self._changed.wait(max(0.0, min(times) - time.monotonic()) if times else None)

    def drop(self) -> None:
        """Forget all requests."""
        for sent in self._queue:
            if sent.call is not None:
                sent.call.cancel()
        self._queue.clear()

    def _begun(self, request: Request, attempts: Attempts) -> Any:
        call = self._start(request, attempts)
        call.add_done_callback(lambda _: self._changed.set())
        return call

    def _look_at(self, sent: "_Sent") -> None:
        """Take note of what has become of a request, or send it again when its time has come."""
        if sent.outcome is not None:
            return
        if sent.call is None:
            if time.monotonic() >= sent.again_at:
                sent.call = self._begun(sent.request, sent.attempts)
        elif sent.call.done():
            sent.settle()


class _Sent:
    """One request: its call while there is one, when it is to be sent again, and what became of it."""

    def __init__(self, request: Request, attempts: Attempts, call: Any) -> None:
        self.request, self.attempts, self.call = request, attempts, call
        self.again_at = 0.0
        self.outcome: Outcome | None = None

    def settle(self) -> None:
        asked, attempts = self.request.asked, self.attempts
        try:
            self.outcome = self.call.result()
        except grpc.FutureCancelledError:
            self.outcome = closed(asked.target)
        except grpc.RpcError as error:
            pause_s = attempts.pause_s(error)
            if pause_s is None:
                self.outcome = from_rpc(attempts.reason(error), asked, attempts.deadline.allowed_s)
            else:
                self.call, self.again_at = None, time.monotonic() + pause_s
