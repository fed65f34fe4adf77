"""The line to a server for programs on asyncio: one channel, and how requests go over it."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import grpc

from ae_search.client.access import Access
from ae_search.client.asking_each import ask_each
from ae_search.client.channels import open_channel
from ae_search.client.requests import Outcome, Request
from ae_search.client.retrying import Attempts, Deadline, Timeouts
from ae_search.client.rpc_errors import closed, from_rpc
from ae_search.client.steps import Answered, Ask, Conversation, Pause, Send, Step, Work


class AsyncLine:
    """`Line` for asyncio: any number of tasks of one event loop; another loop, one at a time, gets another channel.

    Args:
        target: As the others, see `Line`.
    """

    def __init__(self, target: str, access: Access, timeouts: Timeouts, max_answer_bytes: int) -> None:
        self._target, self._access, self._timeouts = target, access, timeouts
        self._max_answer_bytes = max_answer_bytes
        self._closed = self._has_answered = False
        self._channel: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._methods: dict[str, Any] = {}

    async def close(self) -> None:
        """Close the channel."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def carry_out(self, conversation: Conversation, *, in_thread: bool = False) -> Any:
        """Carry a conversation out, and return what it ends with.

        Args:
            conversation: The conversation.
            in_thread: Whether it reads files between its steps.

        Raises:
            ValueError: The line is closed.
        """
        under_way: deque[asyncio.Task[Outcome]] = deque()
        if self._closed:
            raise ValueError("The client is closed.")
        until = self._timeouts.for_call()
        answer: Any = None
        try:
            while True:
                step = (
                    await asyncio.to_thread(_next, conversation, answer) if in_thread else _next(conversation, answer)
                )
                answer = None
                if isinstance(step, _Done):
                    return step.value
                if isinstance(step, Send):
                    under_way.append(asyncio.create_task(self._outcome(step.request, until)))
                elif step is Step.TAKE:
                    answer = await under_way.popleft()
                elif step is Step.DROP:
                    await _cancel(under_way)
                else:
                    answer = await self._answer(step, until)
        finally:
            await _cancel(under_way)

    async def _answer(self, step: Answered, until: Deadline) -> Any:
        """Carry out a step for which nothing else is under way."""
        if isinstance(step, Ask):
            return await self._outcome(step.request, until)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.run)
        if isinstance(step, Pause):
            return await asyncio.sleep(min(step.seconds, until.left_s()))
        left_s = self._timeouts.for_request(until).left_s()
        return await asyncio.to_thread(ask_each, step.request, self._access, left_s)

    async def _outcome(self, request: Request, until: Deadline) -> Outcome:
        """Return what a request comes to, after as many attempts as its deadline has room for."""
        deadline = self._timeouts.for_request(until)
        attempts = Attempts(deadline, patient=self._has_answered)
        while not self._closed:
            try:
                return await self._call(request, deadline)
            except grpc.RpcError as error:
                pause_s = attempts.pause_s(error)
                if pause_s is None and not self._closed:
                    return from_rpc(attempts.reason(error), request.asked, deadline.allowed_s)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                return closed(self._target)
            except grpc.aio.UsageError:
                if self._closed:
                    break
                raise
            await asyncio.sleep(pause_s or 0)
        return closed(self._target)

    async def _call(self, request: Request, deadline: Deadline) -> bytes:
        loop = asyncio.get_running_loop()
        if self._channel is None or self._loop is not loop:  # a channel belongs to the loop that it was opened in
            self._loop, self._methods = loop, {}
            self._channel = open_channel(
                self._target,
                self._access,
                timeout_s=self._timeouts.longest_request_s,
                max_answer_bytes=self._max_answer_bytes,
                asynchronous=True,
            )
        method = self._methods.get(request.method)
        if method is None:
            method = self._methods[request.method] = self._channel.unary_unary(request.method)
        metadata = self._access.call_metadata()
        answer: bytes = await method(request.message, timeout=deadline.left_s(), metadata=metadata)
        self._has_answered = True
        return answer


@dataclass(frozen=True)
class _Done:
    value: Any


def _next(conversation: Conversation, answer: Any) -> Any:
    """Return the next step, or `_Done`: a StopIteration cannot leave a coroutine or a thread."""
    try:
        return conversation.send(answer)
    except StopIteration as done:
        return _Done(done.value)


async def _cancel(under_way: deque[asyncio.Task[Outcome]]) -> None:
    tasks = list(under_way)
    under_way.clear()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)
