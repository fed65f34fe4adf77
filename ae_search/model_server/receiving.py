"""Bounds on the calls and on the bytes of requests that a server holds at a time.

gRPC itself takes in every message that a stranger begins to send, up to the largest that is allowed, and keeps what it
has until the call ends.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from ae_search.model_server.options import Limits
from ae_search.model_server.refusal import EXHAUSTED, NO_MESSAGE, RequestRefused
from ae_search.model_server.servicers import SMALL_BYTES

# What is sent in this time is bounded by the network; gRPC does not say how much it is.
QUICK_S = 0.25
# A message that others wait for.
PATIENCE_S = 10.0
# A message that nobody waits for.
LONGEST_S = 300.0
READERS = 2


@dataclass(eq=False)
class _Arriving:
    context: Any
    began: float
    timer: asyncio.TimerHandle | None = None


class Receiving(grpc.aio.ServerInterceptor):
    """Takes requests in, before every other interceptor; large ones are read on threads of its own.

    A message that has not arrived after a moment needs one of a few places, so many that the largest messages fill
    `Limits.receiving_mib`. Where there is none left, the oldest one that has had its time goes, or else this one. What
    goes, and what comes while too many calls or bytes are under way, is answered by the text on which clients try
    again.
    """

    def __init__(self, limits: Limits, max_message_bytes: int) -> None:
        """Take the limits.

        Args:
            limits: Bounds on calls and bytes.
            max_message_bytes: Bytes of the largest request.
        """
        self._most_calls = limits.max_calls
        self._most_bytes = limits.receiving_mib * 2**20
        self._most_slow = max(1, self._most_bytes // max_message_bytes)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read-request")
        self._calls = self._held = 0
        self._slow: dict[_Arriving, None] = {}  # the oldest first
        self._ending: set[asyncio.Task[None]] = set()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Wrap a method of one request: on the wire it does not differ from one whose requests are read one by one."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming:
            return handler
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._streaming(handler), None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(self._answering(handler), None, handler.response_serializer)

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _answering(self, handler: Any) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(_: Any, context: Any) -> Any:
            await self._admit(context)
            try:
                return await self._answer(handler, context, await self._arrived(context))
            finally:
                self._calls -= 1

        return answer

    def _streaming(self, handler: Any) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def answers(_: Any, context: Any) -> AsyncIterator[Any]:
            await self._admit(context)
            try:
                async for response in handler.unary_stream(
                    handler.request_deserializer(await self._arrived(context)), context
                ):
                    yield response
            finally:
                self._calls -= 1

        return answers

    async def _admit(self, context: Any) -> None:
        if self._calls >= self._most_calls:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, EXHAUSTED)
        self._calls += 1

    async def _arrived(self, context: Any) -> bytes:
        """Return the request of a call, once it is here."""
        loop = asyncio.get_running_loop()
        arriving = _Arriving(context, loop.time())
        arriving.timer = loop.call_later(QUICK_S, self._take_place, arriving)
        try:
            data = await context.read()
        finally:
            self._forget(arriving)
        if data is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INTERNAL, NO_MESSAGE)
        return bytes(data)

    def _take_place(self, arriving: _Arriving) -> None:
        """Let a message take its time, if there is a place for one more."""
        loop = asyncio.get_running_loop()
        if len(self._slow) >= self._most_slow:
            oldest = next(iter(self._slow))
            if loop.time() - oldest.began < PATIENCE_S:
                self._end(arriving)
                return
            self._end(oldest)
        self._slow[arriving] = None
        arriving.timer = loop.call_later(LONGEST_S, self._end, arriving)

    def _end(self, arriving: _Arriving) -> None:
        self._forget(arriving)
        ending = asyncio.get_running_loop().create_task(_refuse(arriving.context))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _forget(self, arriving: _Arriving) -> None:
        if arriving.timer is not None:
            arriving.timer.cancel()
        self._slow.pop(arriving, None)

    async def _answer(self, handler: Any, context: Any, data: bytes) -> Any:
        """Read a request, a large one on a thread, and answer it; the bytes themselves are let go of before that."""
        if (size := len(data)) <= SMALL_BYTES:
            return await handler.unary_unary(handler.request_deserializer(data), context)
        if self._held and self._held + size > self._most_bytes:
            return await handler.unary_unary(RequestRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, EXHAUSTED), context)
        self._held += size
        run = asyncio.get_running_loop().run_in_executor(self._readers, handler.request_deserializer, data)
        del data
        try:
            request = await asyncio.shield(run)
        except asyncio.CancelledError:
            # The caller has gone, the thread has not.
            run.add_done_callback(lambda _: self._release(size))
            raise
        except BaseException:
            self._release(size)
            raise
        try:
            return await handler.unary_unary(request, context)
        finally:
            self._release(size)

    def _release(self, size: int) -> None:
        self._held -= size


async def _refuse(context: Any) -> None:
    """End a call that waits for its request: it raises there as well, and gRPC lets go of what it has."""
    with suppress(Exception):
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, EXHAUSTED)
