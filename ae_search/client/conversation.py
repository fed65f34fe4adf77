"""What is said to a model server, and what is made of its answers: without a socket, a thread or a clock.

A conversation is a generator. It yields `Send` to put a request on its way, `TAKE` to be given what became of the
oldest that is under way, `Ask` for both at once, and `DROP` to forget those under way. `LatentClient` and
`AsyncLatentClient` carry conversations out, so that the two behave alike.
"""

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from heapq import heappop, heappush
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ae_search.client import wire
from ae_search.client.call import Call
from ae_search.client.chunks import Chunk, Limits, file_chunks, row_chunks
from ae_search.client.requests import MovedOnError, Request, card_of, fill_spec, good, predict
from ae_search.client.rpc_errors import Asked
from ae_search.contract import (
    ROWS,
    SIGNATURE_DESCRIBE,
    FileInputs,
    ModelCard,
    OnBad,
    image_batch,
)
from ae_search.errors import ImageError, ModelNotServedError

# How often a call starts anew because the version that it was to use has been rolled over.
_VERSIONS = 3


@dataclass(slots=True)
class Send:
    """Put a request on its way."""

    request: Request


@dataclass(slots=True)
class Ask:
    """Put a request on its way and give what became of it; none other is under way."""

    request: Request


class Step(Enum):
    """The other steps of a conversation."""

    TAKE = "give what became of the oldest request under way"
    DROP = "forget the requests under way"


Conversation = Generator[Send | Ask | Step, Any, Any]


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model on the server: its number, its state (AVAILABLE, LOADING, …) and its error, if any."""

    version: int
    state: str
    error: str = ""


class ModelTalk:
    """Conversations about one model on one server.

    Attributes:
        asked: Server and model, with the version or label that is pinned, if any.
        max_in_flight: Requests of one call that are under way at once.
        max_megapixels: Pixels that an image file may have, in millions, None for the limit of its format.
        limits: How much one request carries, shared by all versions.
    """

    def __init__(self, asked: Asked, *, max_in_flight: int = 4, max_megapixels: float | None = None) -> None:
        self.asked = asked
        self.max_in_flight, self.max_megapixels = max_in_flight, max_megapixels
        self.limits = Limits()
        self._card: ModelCard | None = None

    def at_version(self, version: int) -> Self:
        """Return the same for one version only.

        Raises:
            ModelNotServedError: Another one is pinned.
        """
        if type(version) is not int:
            raise TypeError(f"A version is a whole number. Received: {version!r}.")
        if self.asked.version not in (None, version):
            raise ModelNotServedError(f"Version {version} is needed, but the client is to ask for {self.asked} only.")
        pinned = copy.copy(self)
        pinned.asked, pinned._card = replace(self.asked, version=version, label=None), None
        return pinned

    def status(self) -> Conversation:
        """Ask for the state of the model's versions; end with a list of `VersionStatus`."""
        request = wire.GetModelStatusRequest()
        fill_spec(request.model_spec, self.asked)
        data = good((yield Ask(Request(wire.GET_MODEL_STATUS, self.asked, request.SerializeToString()))))
        response = wire.parsed(wire.GetModelStatusResponse, data, self.asked.target)
        names = wire.ModelState.values_by_number
        return [
            VersionStatus(one.version, names[one.state].name if one.state in names else "", one.status.error_message)
            for one in response.model_version_status
        ]

    def describe(self) -> Conversation:
        """Ask for the model card; end with it, its version the one that answered."""
        asked = self.asked
        outcome = yield Ask(predict(asked, SIGNATURE_DESCRIBE))
        if isinstance(outcome, ImageError):  # a server that does not know the input's default
            outcome = yield Ask(predict(asked, SIGNATURE_DESCRIBE, {ROWS: np.zeros(1, np.int32)}))
        card = card_of(good(outcome), asked)
        self._card = card
        return card

    def encode(self, images: npt.ArrayLike) -> Conversation:
        """Ask for the latents of pixels; end with them, `[n, d]`, in order."""

        def rows(card: ModelCard, asked: Asked) -> Conversation:
            try:
                signature, array = image_batch(images, card.image_shape)
            except ImageError as error:
                if asked.version is not None:
                    raise
                # The card may be that of a version that is gone, and the next one may take such images.
                raise MovedOnError(str(error)) from error
            call = Call(card, asked, self.limits)
            yield from self._pump(row_chunks(array, signature, self.limits), call)
            return call.latents()

        return self._at_one_version(rows)

    def encode_files(self, files: FileInputs, on_bad: OnBad | None) -> Conversation:
        """Ask for the latents of image files; end with those of the good ones, `[n, d]`, in order.

        Raises:
            TypeError: `files` is one file and no list.
        """
        if isinstance(files, str | bytes | bytearray | Path):
            raise TypeError(f"files must be a list of paths or bytes. Received: {type(files).__name__}.")
        files = [bytes(file) if isinstance(file, bytearray | memoryview) else file for file in files]  # type: ignore

        def all_files(card: ModelCard, asked: Asked) -> Conversation:
            call = Call(card, asked, self.limits, files, stop_at_bad=on_bad is None)
            bad = None if on_bad is None else call.bad
            yield from self._pump(file_chunks(files, self.limits, bad, max_megapixels=self.max_megapixels), call)
            if on_bad is None and call.bad:
                raise call.bad[min(call.bad)]
            return call

        def told() -> Conversation:
            call = yield from self._at_one_version(all_files)
            # Last, because the call may start anew and would tell everything twice.
            if on_bad is not None:
                for position in sorted(call.bad):
                    on_bad(position, call.bad[position])
            return call.latents()

        return told()

    def _at_one_version(self, run: Callable[[ModelCard, Asked], Conversation]) -> Conversation:
        """Run a call against one version, from its beginning if that is rolled over meanwhile.

        The latents of two versions never stand in one array: what answers first settles the version for all.
        """
        card, asked = self._card or (yield from self.describe()), self.asked
        for last in (*[False] * (_VERSIONS - 1), True):
            try:
                return (yield from run(card, asked))
            except ModelNotServedError:
                if self.asked.version is not None or last:
                    raise
            yield Step.DROP
            card = yield from self.describe()
            asked = replace(self.asked, version=card.version, label=None)
        raise AssertionError

    def _pump(self, chunks: Iterator[Chunk], call: Call) -> Conversation:
        """Send chunks, a bounded number at a time, and again in parts what is refused."""
        again: list[Chunk] = []
        ahead = list(islice(chunks, 2))
        if len(ahead) == 1:  # a blocking call costs half of one that others run beside
            again = call.settle(ahead[0], (yield Ask(call.request(ahead.pop()))))
            if not again:
                return
        fresh = chain(ahead, chunks)
        under_way: deque[Chunk] = deque()
        while True:
            while len(under_way) < self.max_in_flight and (
                chunk := heappop(again) if again else None if call.is_over else next(fresh, None)
            ):
                yield Send(call.request(chunk))
                under_way.append(chunk)
            if not under_way:
                return
            for part in call.settle(under_way.popleft(), (yield Step.TAKE)):
                heappush(again, part)
