"""Latents over gRPC, blocking."""

import threading
import time
from types import TracebackType
from typing import Any, Self

import grpc
import numpy.typing as npt

from ae_search.client.asking_each import ask_each
from ae_search.client.channels import open_channel
from ae_search.client.model_client import ModelClient
from ae_search.client.requests import Outcome, Request
from ae_search.client.retrying import Attempts, Deadline
from ae_search.client.rpc_errors import closed, from_rpc
from ae_search.client.steps import Answered, Ask, Conversation, Pause, Send, Step, Work
from ae_search.client.under_way import UnderWay
from ae_search.client.versions import VersionState
from ae_search.client.wire import GET_MODEL_STATUS, PREDICT
from ae_search.contract import FileInputs, Latents, ModelCard, OnBad


class LatentClient(ModelClient):
    """Fetches latents from TensorFlow Serving, or from the embedded model server, over one gRPC channel.

    Safe to use from several threads. Requests that a server has no room for, or that a server which has answered before
    is away for, are sent again until their time is up; where no server ever answered, for about three seconds.

    Args:
        target: "HOST:PORT" or a gRPC target such as "dns:///serving:8500", whose addresses take turns.
        model: Name that the server serves the model under.
        version: Version to pin; None for the newest.
        label: Label of the version to pin, in place of its number.
        access: TLS and credentials. Plain text goes to this machine only, unless `Access(insecure=True)`.
        timeout_s: Seconds allowed for each request, its repetitions included.
        total_timeout_s: Seconds allowed for a whole call, however many requests it takes; None for no such limit.
        max_in_flight: Requests of one call that are under way at once, at least 1.
        max_megapixels: Image files with more pixels are refused from their head, before they are sent. None for the
            limit of the format, which no number raises: 128 for JPEG, 64 for others, all frames of a GIF together.

    Raises:
        ConfigurationError: `target` is no gRPC target, plain text would leave this machine, a TLS file is wrong, both
            version and label are given, or there is no time allowed.

    Example:
        with LatentClient("127.0.0.1:8500", model="fashion") as client:
            latents = client.encode_files(["photo.jpg"])
    """

    def _connect(self, target: str) -> None:
        self._channel = open_channel(target, self._access, timeout_s=self._request_s)
        self._closed, self._has_answered = threading.Event(), threading.Event()
        # Bytes in, bytes out: what an answer is worth is judged in one place, without a traceback in gRPC's log.
        self._methods = {method: self._channel.unary_unary(method) for method in (PREDICT, GET_MODEL_STATUS)}

    def close(self) -> None:
        """Close the channel; clients made by `at_version` share it."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        self.close()

    def describe(self) -> ModelCard:
        """Return the model card, its version the one that answered.

        Raises:
            ServerError: The server cannot be reached, does not serve the model, or answers nonsense.
        """
        card: ModelCard = self._carry_out(self.talk.describe())
        return card

    def status(self) -> list[VersionState]:
        """Return the state of every version of the model that the server knows, as it lists them.

        Raises:
            ServerError: The server cannot be reached or does not know the model.
        """
        statuses: list[VersionState] = self._carry_out(self.talk.status())
        return statuses

    def encode(self, images: npt.ArrayLike) -> Latents:
        """Return latents `[n, d]` float32, in order, all of one version.

        Args:
            images: uint8 in [0, 255] or floats in [0, 1], `[n, h, w, c]` of the model's shape, or one `[h, w, c]`.

        Raises:
            ImageError: Shape, dtype or values do not fit the model.
            ServerError: The server cannot be reached, is too slow, lacks the model, or answers nonsense.
        """
        latents: Latents = self._carry_out(self.talk.encode(images))
        return latents

    def encode_files(self, files: FileInputs, *, on_bad: OnBad | None = None) -> Latents:
        """Return latents `[n, d]` float32 of image files, in order, all of one version.

        A server refuses a whole request for one image that it cannot decode. The client finds it by sending the others
        again in smaller requests.

        Args:
            files: Paths, or the bytes of JPEG, PNG, GIF, BMP or WebP files.
            on_bad: Called with position and error of each file that cannot be decoded; its row is left out.

        Raises:
            ImageError: A file cannot be decoded and there is no `on_bad`.
            ServerError: As for `encode`.
        """
        latents: Latents = self._carry_out(self.talk.encode_files(files, on_bad))
        return latents

    def _carry_out(self, conversation: Conversation) -> Any:
        if self._closed.is_set():
            raise ValueError("The client is closed.")
        under_way = UnderWay(self._start)
        until = Deadline.after(self.total_timeout_s)
        answer: Any = None
        try:
            while True:
                step, answer = conversation.send(answer), None
                if isinstance(step, Send):
                    under_way.send(step.request, self._attempts(until))
                elif step is Step.TAKE:
                    answer = self._noted(under_way.take())
                elif step is Step.DROP:
                    under_way.drop()
                else:
                    answer = self.answer(step, until)
        except StopIteration as done:
            return done.value
        except ValueError as error:
            if self._closed.is_set():  # while the call ran
                raise closed(self.talk.asked) from error
            raise
        finally:
            under_way.drop()

    def answer(self, step: Answered, until: Deadline | None = None) -> Any:
        """Carry out a step of a conversation for which nothing else is under way, and return its answer."""
        until = until or Deadline.after(self.total_timeout_s)
        if isinstance(step, Ask):
            return self.outcome(step.request, until)
        if isinstance(step, Work):
            return step.run()
        if isinstance(step, Pause):
            self._closed.wait(min(step.seconds, until.left_s()))
            return None
        return ask_each(step.request, self._access, until.sooner(self.timeout_s).left_s())

    def outcome(self, request: Request, until: Deadline | None = None) -> Outcome:
        """Send one request and return the bytes of its answer, or the error that it comes to."""
        attempts = self._attempts(until)
        method, metadata = self._methods[request.method], self._access.call_metadata()
        while True:
            try:
                return self._noted(method(request.message, timeout=attempts.deadline.left_s(), metadata=metadata))
            except grpc.RpcError as error:
                pause_s = attempts.pause_s(error)
                if self._closed.is_set():
                    return closed(request.asked)
                if pause_s is None:
                    return from_rpc(attempts.reason(error), request.asked, attempts.deadline.allowed_s)
            time.sleep(pause_s)

    def _attempts(self, until: Deadline | None) -> Attempts:
        deadline = Deadline.after(self.timeout_s) if until is None else until.sooner(self.timeout_s)
        return Attempts(deadline, patient=self._has_answered.is_set())

    def _start(self, request: Request, attempts: Attempts) -> Any:
        timeout, metadata = attempts.deadline.left_s(), self._access.call_metadata()
        return self._methods[request.method].future(request.message, timeout=timeout, metadata=metadata)

    def _noted(self, outcome: Outcome) -> Outcome:
        """Take note of that a server is there, and of that the client was closed meanwhile."""
        if isinstance(outcome, bytes):
            self._has_answered.set()
        elif self._closed.is_set():
            return closed(self.talk.asked)
        return outcome
