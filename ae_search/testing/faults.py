"""Faults that a real gRPC server answers with."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

PREDICT = "Predict"


@dataclass(frozen=True)
class When:
    """Which requests a fault meets.

    Attributes:
        method: "Predict", "GetModelMetadata", "GetModelStatus" or "Check"; empty means all.
        times: How many requests it meets before it is over; None is without end.
        every: It meets each n-th request: 3 lets two pass and meets the third.
        share: Share of the requests that it meets, in (0, 1], drawn with `seed`.
        seed: Seed of the draws.
    """

    method: str = PREDICT
    times: int | None = None
    every: int = 1
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 < self.share <= 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"every and times must be at least 1 and share in (0, 1]. Received: {self}.")


ALWAYS = When()

# Holds a request up, or ends it by an exception.
Part = Callable[[Any], Awaitable[None]]
Spoil = Callable[[bytes], bytes]


@dataclass(eq=False)
class _Fault:
    when: When
    before: Part | None = None
    spoil: Spoil | None = None
    seen: int = 0
    met: int = 0
    draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draws = random.Random(self.when.seed)

    def meets(self, method: str) -> bool:
        when = self.when
        if when.method not in ("", method) or self.met == when.times:
            return False
        self.seen += 1
        met = self.seen % when.every == 0 and self.draws.random() < when.share
        self.met += met
        return met


class Faults:
    """What goes wrong with the requests of one server; may be changed from any thread while it answers.

    Several faults meet a request in the order they were added: `delay` and then `fail` is a slow failure.

    Example:
        server.faults.fail("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", when=When(every=2))
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._requests: dict[str, int] = {}

    def delay(self, latency_s: float, *, when: When = ALWAYS) -> None:
        """Hold requests up for so many seconds before they are answered."""

        async def wait(_: Any) -> None:
            await asyncio.sleep(latency_s)

        self._add(_Fault(when, before=wait))

    def fail(self, code: grpc.StatusCode | str, text: str = "injected", *, when: When = ALWAYS) -> None:
        """Answer with an error.

        Args:
            code: gRPC status code or its name, such as "UNAVAILABLE".
            text: Its details.
            when: Which requests.
        """
        status = grpc.StatusCode[code] if isinstance(code, str) else code

        async def abort(context: Any) -> None:
            await context.abort(status, text)

        self._add(_Fault(when, before=abort))

    def drop(self, *, when: When = ALWAYS) -> None:
        """Never answer: the client waits until it gives up."""

        async def wait(_: Any) -> None:
            await asyncio.Event().wait()

        self._add(_Fault(when, before=wait))

    def garbage(self, data: bytes = b"\xff" * 16, *, when: When = ALWAYS) -> None:
        """Answer with bytes that are no message, or any others."""
        self._add(_Fault(when, spoil=lambda _: data))

    def truncate(self, keep_bytes: int, *, when: When = ALWAYS) -> None:
        """Cut the answer off after so many bytes."""
        self._add(_Fault(when, spoil=lambda data: data[:keep_bytes]))

    def clear(self) -> None:
        """Take all faults back; requests that are held up stay so."""
        with self._lock:
            self._faults.clear()

    def reset(self) -> None:
        """Take all faults back, and count requests from 0 again."""
        with self._lock:
            self._faults.clear()
            self._requests.clear()

    def requests(self, method: str = PREDICT) -> int:
        """Return how many requests came so far, those that a fault met included."""
        with self._lock:
            return self._requests.get(method, 0)

    def interceptor(self) -> grpc.aio.ServerInterceptor:
        """Return what `ModelServer(interceptors=...)` takes."""
        return _FaultInterceptor(self._meeting)

    def _add(self, fault: _Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def _meeting(self, method: str) -> list[_Fault]:
        with self._lock:
            self._requests[method] = self._requests.get(method, 0) + 1
            return [fault for fault in self._faults if fault.meets(method)]


class _FaultInterceptor(grpc.aio.ServerInterceptor):
    def __init__(self, meeting: Callable[[str], list[_Fault]]) -> None:
        self._meeting = meeting

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of a request that a fault meets."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        faults = self._meeting(details.method.rpartition("/")[2])
        return _faulty(handler, faults) if faults else handler


def _faulty(handler: Any, faults: list[_Fault]) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        for fault in faults:
            if fault.before is not None:
                await fault.before(context)
        return await handler.unary_unary(request, context)

    def serialize(response: Any) -> bytes:
        data: bytes = handler.response_serializer(response)
        for fault in faults:
            data = data if fault.spoil is None else fault.spoil(data)
        return data

    return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, serialize)
