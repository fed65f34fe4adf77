"""The line to a server, blocking: one channel, and how requests go over it."""

import threading
from typing import Any

import grpc

from ae_search.client.access import Access
from ae_search.client.asking_each import ask_each
from ae_search.client.channels import open_channel
from ae_search.client.requests import Outcome, Request
from ae_search.client.retrying import Attempts, Deadline, Timeouts
from ae_search.client.rpc_errors import closed, from_rpc
from ae_search.client.steps import Answered, Ask, Conversation, Pause, Send, Step, Work
from ae_search.client.under_way import UnderWay
from ae_search.client.wire import METHODS


class Line:
    """Carries out conversations with a server over one channel; safe to use from several threads.

    Args:
        target: The gRPC target.
        access: TLS and credentials.
        timeouts: How long requests and calls may take.
        max_answer_bytes: Bytes that an answer may have.

    Attributes:
        overload_s: Seconds that requests have waited for room on the server so far, each by itself.
    """

    def __init__(self, target: str, access: Access, timeouts: Timeouts, max_answer_bytes: int) -> None:
        self._target, self._access, self._timeouts = target, access, timeouts
        self._channel = open_channel(
            target, access, timeout_s=timeouts.longest_request_s, max_answer_bytes=max_answer_bytes
        )
        self._closed, self._has_answered = threading.Event(), threading.Event()
        self.overload_s = 0.0
        # Bytes in, bytes out: what an answer is worth is judged in one place, without a traceback in gRPC's log.
        self._methods = {method: self._channel.unary_unary(method) for method in METHODS}

    def close(self) -> None:
        """Close the channel."""
        self._closed.set()
        self._channel.close()

    def carry_out(self, conversation: Conversation) -> Any:
        """Carry a conversation out, and return what it ends with.

        Raises:
            ValueError: The line is closed.
        """
        if self._closed.is_set():
            raise ValueError("The client is closed.")
        under_way: UnderWay | None = None
        until = self._timeouts.for_call()
        answer: Any = None
        try:
            while True:
                step, answer = conversation.send(answer), None
                if isinstance(step, Send):
                    under_way = under_way or UnderWay(self._start)
                    under_way.send(step.request, self._attempts(until))
                elif step is Step.TAKE:
                    assert under_way is not None
                    answer = self._noted(under_way.take())
                elif step is Step.DROP:
                    if under_way is not None:
                        under_way.drop()
                else:
                    answer = self.answer(step, until)
        except StopIteration as done:
            return done.value
        except ValueError as error:
            if self._closed.is_set():  # while the call ran
                raise closed(self._target) from error
            raise
        finally:
            if under_way is not None:
                under_way.drop()

    def answer(self, step: Answered, until: Deadline | None = None) -> Any:
        """Carry out a step of a conversation for which nothing else is under way, and return its answer."""
        until = until or self._timeouts.for_call()
        if isinstance(step, Ask):
            return self.outcome(step.request, until)
        if isinstance(step, Work):
            return step.run()
        if isinstance(step, Pause):
            self._closed.wait(min(step.seconds, until.left_s()))
            return None
        return ask_each(step.request, self._access, self._timeouts.for_request(until).left_s())

    def outcome(self, request: Request, until: Deadline | None = None) -> Outcome:
        """Send one request and return the bytes of its answer, or the error that it comes to."""
        attempts = self._attempts(until)
        method, metadata = self._methods[request.method], self._access.call_metadata()
        while True:
            try:
                return self._noted(method(request.message, timeout=attempts.deadline.left_s(), metadata=metadata))
            except grpc.RpcError as error:
                pause_s = attempts.pause_s(error)
                if pause_s is None and not self._closed.is_set():
                    return from_rpc(attempts.reason(error), request.asked, attempts.deadline.allowed_s)
            if self._closed.wait(pause_s):
                return closed(self._target)

    def _attempts(self, until: Deadline | None) -> Attempts:
        patient = self._has_answered.is_set()
        return Attempts(self._timeouts.for_request(until), patient=patient, on_overload=self._note_overload)

    def _note_overload(self, pause_s: float) -> None:
        self.overload_s += pause_s

    def _start(self, request: Request, attempts: Attempts) -> Any:
        timeout, metadata = attempts.deadline.left_s(), self._access.call_metadata()
        return self._methods[request.method].future(request.message, timeout=timeout, metadata=metadata)

    def _noted(self, outcome: Outcome) -> Outcome:
        """Take note of that a server is there, and of that the line was closed meanwhile."""
        if isinstance(outcome, bytes):
            if not self._has_answered.is_set():
                self._has_answered.set()
        elif self._closed.is_set():
            return closed(self._target)
        return outcome
