"""What is said to a model server, and what is made of its answers: without a socket, a thread or a clock.

A conversation is a generator, which yields the steps of `steps`: `Send` to put a request on its way, `TAKE` to be given
what became of the oldest that is under way, `Ask` for both at once, and so on. `LatentClient` and `AsyncLatentClient`
carry conversations out, so that the two behave alike.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import chain, count, islice
from typing import Self

import numpy as np
import numpy.typing as npt

from ae_search.client.call import Call
from ae_search.client.chunks import Chunk, ChunkLimits, file_chunks, row_chunks
from ae_search.client.decoding import decode
from ae_search.client.requests import MovedOnError, card_of, good, predict
from ae_search.client.retrying import pauses_s
from ae_search.client.rpc_errors import Asked
from ae_search.client.steps import Ask, Conversation, Pause, Send, Step
from ae_search.client.suspects import ask_again
from ae_search.client.versions import holdings, status, with_states
from ae_search.contract import (
    ROWS,
    SIGNATURE_DESCRIBE,
    FileInputs,
    ModelCard,
    OnBad,
    file_batch,
    image_batch,
)
from ae_search.errors import ImageError, ModelNotServedError

# How often a call starts anew because the version that it was to use has been rolled over.
_VERSIONS = 3


@dataclass
class _Patience:
    """How often a call starts anew: after pauses while servers differ, a few times where they do not."""

    pauses_s: Iterator[float]
    turns: int = _VERSIONS - 1


class ModelTalk:
    """Conversations about one model on one server.

    Attributes:
        asked: Server and model, with the version or label that is pinned, if any.
        max_in_flight: Requests of one call that are under way at once.
        max_megapixels: Pixels that an image file may have, in millions, None for the limit of its format.
        patience_s: Seconds to wait for several servers of one target to agree on a version.
        limits: How much one request carries, shared by all versions.
    """

    def __init__(
        self,
        asked: Asked,
        *,
        max_in_flight: int = 4,
        max_megapixels: float | None = None,
        patience_s: float = 30.0,
    ) -> None:
        self.asked = asked
        self.max_in_flight, self.max_megapixels, self.patience_s = max_in_flight, max_megapixels, patience_s
        self.limits = ChunkLimits()
        self._card: ModelCard | None = None

    def at_version(self, version: int) -> Self:
        """Return the same for one version only.

        Raises:
            ModelNotServedError: Another one is pinned, or no server can have such a version.
        """
        pinned = copy.copy(self)
        pinned.asked, pinned._card = self.asked.at_version(version), None
        return pinned

    def status(self) -> Conversation:
        """Ask for the state of the model's versions; end with a list of `VersionState`."""
        return status(self.asked)

    def describe(self) -> Conversation:
        """Ask for the model card; end with it, its version the one that answered.

        Where several servers stand behind the target, it is the newest version that all of them have.
        """

        def card_itself(card: ModelCard, asked: Asked) -> Conversation:
            return card
            yield

        return self._at_one_version(card_itself, None)

    def _described(self, asked: Asked) -> Conversation:
        card = yield from _card(asked)
        held = None if asked.version is not None else (yield from holdings(self.asked))
        if held and held.everywhere and card.version != max(held.everywhere):
            card = yield from _card(replace(asked, version=max(held.everywhere), label=None))
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

        return self._at_one_version(rows, self._card)

    def encode_files(self, files: FileInputs, on_bad: OnBad | None) -> Conversation:
        """Ask for the latents of image files; end with those of the good ones, `[n, d]`, in order.

        Raises:
            TypeError: `files` is one file and no list, or holds something else.
        """
        batch = file_batch(files)

        def all_files(card: ModelCard, asked: Asked) -> Conversation:
            call = Call(card, asked, self.limits, batch, stop_at_bad=on_bad is None)
            chunks = file_chunks(
                batch, self.limits, call.bad, stop_at_bad=call.stop_at_bad, max_megapixels=self.max_megapixels
            )
            yield from self._pump(chunks, call)
            if on_bad is None and call.bad:
                raise call.bad[min(call.bad)]
            return call

        def told() -> Conversation:
            call = yield from self._at_one_version(all_files, self._card)
            # Last, because the call may start anew and would tell everything twice.
            if on_bad is not None:
                for position in sorted(call.bad):
                    on_bad(position, call.bad[position])
            return call.latents()

        return told()

    def decode(self, latents: npt.ArrayLike) -> Conversation:
        """Ask for the images of latents; end with them, `[n, h, w, c]`, in order."""

        def pictures(card: ModelCard, asked: Asked) -> Conversation:
            return (yield from decode(latents, card, asked, self.limits))

        # The next version may have a decoder where the last one that was asked had none.
        return self._at_one_version(pictures, self._card if self.asked.version is not None else None)

    def _at_one_version(self, run: Callable[[ModelCard, Asked], Conversation], card: ModelCard | None) -> Conversation:
        """Run a call against one version, from its beginning if that is rolled over meanwhile.

        The latents of two versions never stand in one array: what answers first settles the version for all.
        """
        asked, patience = self.asked, _Patience(pauses_s(self.patience_s))
        known = {} if card is None else {card.version: card}
        for attempt in count(1):
            try:
                if card is None:
                    card = yield from self._described(asked)
                    known[card.version] = card
                    asked = asked if attempt == 1 else replace(asked, version=card.version, label=None)
                return (yield from run(card, asked))
            except ModelNotServedError as error:
                missed = error
            yield Step.DROP
            asked = yield from self._next(missed, patience, knows_card=bool(known))
            card = None if asked.version is None else known.get(asked.version)
        raise AssertionError

    def _next(self, missed: ModelNotServedError, patience: "_Patience", *, knows_card: bool) -> Conversation:
        """Find whom to ask next, where a version was missed; end with it.

        With several servers behind a target, it is the newest version that all of them have. While only some have what
        is asked for, the others may get it soon; as they take turns, the request may also meet one that has it.

        Args:
            missed: Raised where nobody has it, or the time is up.
            patience: How often to try again.
            knows_card: Whether the model was there before.
        """
        held = yield from holdings(self.asked)
        if held is not None and held.somewhere and not held.everywhere:
            pause_s = next(patience.pauses_s, None)
            if pause_s is None:
                raise missed
            yield Pause(pause_s)
            return replace(self.asked, version=max(held.somewhere), label=None)
        helps = bool(held.everywhere) if held is not None else knows_card and self.asked.version is None
        if not helps or not patience.turns:
            raise (yield from with_states(missed, self.asked))
        patience.turns -= 1
        return self.asked if held is None else replace(self.asked, version=max(held.everywhere), label=None)

    def _pump(self, chunks: Iterator[Chunk], call: Call) -> Conversation:
        """Send chunks, a bounded number at a time, and again in parts, or by themselves, what is refused."""
        again: list[Chunk] = []
        ahead = list(islice(chunks, 2))
        if len(ahead) == 1:  # a blocking call costs half of one that others run beside
            again = call.settle(ahead[0], (yield Ask(call.request(ahead.pop()))))
        fresh = chain(ahead, chunks)
        under_way: deque[Chunk] = deque()
        while True:
            while len(under_way) < self.max_in_flight and (
                # Suspects are settled before more is read: they are kept in memory.
                chunk := heappop(again) if again else None if call.is_over or call.suspects else next(fresh, None)
            ):
                yield Send(call.request(chunk))
                under_way.append(chunk)
            if under_way:
                for part in call.settle(under_way.popleft(), (yield Step.TAKE)):
                    heappush(again, part)
            elif call.suspects:
                again = yield from ask_again(call)
                heapify(again)
            else:
                return


def _card(asked: Asked) -> Conversation:
    """Ask for the model card; end with it, its version the one that answered."""
    outcome = yield Ask(predict(asked, SIGNATURE_DESCRIBE))
    if isinstance(outcome, ImageError):  # a server that does not know the input's default
        outcome = yield Ask(predict(asked, SIGNATURE_DESCRIBE, {ROWS: np.zeros(1, np.int32)}))
    return card_of(good(outcome), asked)
