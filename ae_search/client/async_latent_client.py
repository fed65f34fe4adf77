"""Latents over gRPC, for programs on asyncio."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy.typing as npt

from ae_search.client.access import Access
from ae_search.client.asking_each import ask_each
from ae_search.client.channels import open_channel
from ae_search.client.model_client import ModelClient
from ae_search.client.requests import Outcome, Request
from ae_search.client.retrying import Attempts, Deadline
from ae_search.client.rpc_errors import closed, from_rpc
from ae_search.client.steps import Answered, Ask, Conversation, Pause, Send, Step, Work
from ae_search.client.versions import VersionState
from ae_search.contract import FileInputs, Latents, ModelCard, OnBad
from ae_search.errors import ImageError


class AsyncLatentClient(ModelClient):
    """`LatentClient` for asyncio: the same options, behaviour and errors; one event loop, any number of tasks.

    Files are read in threads, so that the event loop goes on meanwhile.

    Args:
        target: As the others, see `LatentClient`.

    Example:
        async with AsyncLatentClient("127.0.0.1:8500", model="fashion") as client:
            latents = await client.encode_files(["photo.jpg"])
    """

    def _connect(self, target: str) -> None:
        self._line = _Line(target, self._access, self._request_s)
        self._access.check(target)
        self._access.tls_files()  # what is wrong with them is told now, not by the first call

    async def close(self) -> None:
        """Close the channel; clients made by `at_version` share it."""
        await self._line.close()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        await self.close()

    async def describe(self) -> ModelCard:
        """Return the model card; see `LatentClient.describe`."""
        card: ModelCard = await self._carry_out(self.talk.describe())
        return card

    async def status(self) -> list[VersionState]:
        """Return the state of every version; see `LatentClient.status`."""
        statuses: list[VersionState] = await self._carry_out(self.talk.status())
        return statuses

    async def encode(self, images: npt.ArrayLike) -> Latents:
        """Return latents `[n, d]` float32 of pixels; see `LatentClient.encode`."""
        latents: Latents = await self._carry_out(self.talk.encode(images))
        return latents

    async def encode_files(self, files: FileInputs, *, on_bad: OnBad | None = None) -> Latents:
        """Return latents `[n, d]` float32 of image files; see `LatentClient.encode_files`."""
        if not isinstance(files, str | bytes | bytearray | Path):
            files = list(files)  # type: ignore[assignment]
        reads = any(not isinstance(file, bytes) for file in files)
        bad: dict[int, ImageError] = {}
        take_note = None if on_bad is None else bad.__setitem__
        latents: Latents = await self._carry_out(self.talk.encode_files(files, take_note), in_thread=reads)
        if on_bad is not None:  # here, because conversations that read files run in threads
            for position, error in bad.items():
                on_bad(position, error)
        return latents

    async def _carry_out(self, conversation: Conversation, *, in_thread: bool = False) -> Any:
        under_way: deque[asyncio.Task[Outcome]] = deque()
        if self._line.is_closed:
            raise ValueError("The client is closed.")
        until = Deadline.after(self.total_timeout_s)
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
        left_s = until.sooner(self.timeout_s).left_s()
        return await asyncio.to_thread(ask_each, step.request, self._access, left_s)

    async def _outcome(self, request: Request, until: Deadline) -> Outcome:
        """Return what a request comes to, after as many attempts as its deadline has room for."""
        deadline = until.sooner(self.timeout_s)
        attempts = Attempts(deadline, patient=self._line.has_answered)
        while True:
            try:
                return await self._line.call(request, deadline)
            except grpc.RpcError as error:
                if self._line.is_closed:
                    return closed(request.asked)
                pause_s = attempts.pause_s(error)
                if pause_s is None:
                    return from_rpc(attempts.reason(error), request.asked, deadline.allowed_s)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                return closed(request.asked)
            except grpc.aio.UsageError:
                if self._line.is_closed:
                    return closed(request.asked)
                raise
            await asyncio.sleep(pause_s)


@dataclass
class _Line:
    """The channel, opened within the event loop that uses it; another loop, one at a time, gets another channel."""

    target: str
    access: Access
    timeout_s: float
    is_closed: bool = False
    has_answered: bool = False
    _channel: Any = None
    _loop: asyncio.AbstractEventLoop | None = None
    _methods: dict[str, Any] = field(default_factory=dict)

    async def call(self, request: Request, deadline: Deadline) -> bytes:
        loop = asyncio.get_running_loop()
        if self._channel is None or self._loop is not loop:  # a channel belongs to the loop that it was opened in
            self._loop, self._methods = loop, {}
            self._channel = open_channel(self.target, self.access, timeout_s=self.timeout_s, asynchronous=True)
        method = self._methods.get(request.method)
        if method is None:
            method = self._methods[request.method] = self._channel.unary_unary(request.method)
        metadata = self.access.call_metadata()
        answer: bytes = await method(request.message, timeout=deadline.left_s(), metadata=metadata)
        self.has_answered = True
        return answer

    async def close(self) -> None:
        self.is_closed = True
        if self._channel is not None:
            await self._channel.close()


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
