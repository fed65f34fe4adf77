"""What one call has got so far, and what is to be sent again."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ae_search.client.chunks import MAX_REQUEST_BYTES, Chunk, ChunkLimits, name_of
from ae_search.client.requests import Outcome, Request, good, latents_of, predict, predict_array
from ae_search.client.rpc_errors import Asked, BatchTooLargeError
from ae_search.contract import FileInput, Latents, ModelCard
from ae_search.errors import ImageError, ImageRefusedError
from ae_search.image_file import check_pixels

MAYBE_JOINED = (
    "It can be decoded here; the server may have joined it with damaged images of another client. Try it again."
)


@dataclass
class Suspect:
    """A request that was refused, and perhaps only for what the server joined it with: one file, or pixels.

    Attributes:
        chunk: What it carries.
        decodes: Whether that can be decoded here.
    """

    chunk: Chunk
    decodes: bool = True

    def decoded(self) -> bool:
        """Decode the file; return whether that can be done. Pixels need no decoding."""
        if isinstance(self.chunk.images, np.ndarray):
            return True
        try:
            check_pixels(self.chunk.images[0], "")
        except ImageError:
            return False
        return True


@dataclass
class Call:
    """What one call has got so far.

    Attributes:
        card: Card of the version that all its answers must come from.
        asked: Whom its requests ask.
        limits: Lowered when the server says that it takes less.
        files: The image files of the call, None where it is about pixels.
        stop_at_bad: Whether one bad file ends the call.
        bad: Error of each bad file, by position.
        suspects: What is to be asked for again by itself.
    """

    card: ModelCard
    asked: Asked
    limits: ChunkLimits
    files: list[FileInput] | None = None
    stop_at_bad: bool = False
    bad: dict[int, ImageError] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    _parts: dict[int, Latents] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be sent, but for the parts of what was refused."""
        return self.stop_at_bad and bool(self.bad or self.suspects)

    def request(self, chunk: Chunk) -> Request:
        """Return the request for a chunk."""
        if isinstance(chunk.images, np.ndarray):
            return predict_array(self.asked, chunk.signature, chunk.key, chunk.images)
        return predict(self.asked, chunk.signature, {chunk.key: chunk.images})

    def settle(self, chunk: Chunk, outcome: Outcome) -> list[Chunk]:
        """Keep what became of a chunk; return the parts to send in its place."""
        if isinstance(outcome, bytes):
            self._parts[chunk.positions[0]] = latents_of(outcome, self.card, self.asked, len(chunk))
            return []
        too_large = isinstance(outcome, BatchTooLargeError)
        if isinstance(outcome, BatchTooLargeError) and outcome.limit:
            self.limits.lower(outcome.limit)
        if not isinstance(outcome, ImageError):
            raise outcome
        if len(chunk) > 1 and (too_large or self.files is not None):
            return chunk.parts(outcome)
        suspect = Suspect(chunk)
        if too_large:
            self.give_up(suspect, outcome)
        else:
            self.suspects.append(suspect)
        return []

    def give_up(self, suspect: Suspect, outcome: ImageError) -> None:
        """Leave out what is refused for good.

        Raises:
            ImageError: The call is about pixels, of which none is left out.
        """
        if self.files is None:
            raise outcome
        position = suspect.chunk.positions[0]
        name = name_of(self.files, position)
        if isinstance(outcome, BatchTooLargeError) or not suspect.decodes:
            error = ImageError(f"{name}: {outcome}")
        else:
            error = ImageRefusedError(f"{name}: {outcome} {MAYBE_JOINED}")
        error.__cause__ = outcome
        self.bad[position] = error

    def joined(self, suspects: list[Suspect]) -> Iterator[Chunk]:
        """Yield requests for several files each, as many as one may carry; what stays alone is left out."""
        files = {suspect.chunk.positions[0]: suspect.chunk for suspect in suspects} if self.files is not None else {}
        while files:
            group: list[Chunk] = []
            size = 0
            for chunk in files.values():
                size += len(chunk.images[0])
                if group and (len(group) >= self.limits.files or size > MAX_REQUEST_BYTES):
                    break
                group.append(chunk)
            positions = [chunk.positions[0] for chunk in group]
            for position in positions:
                del files[position]
            if len(group) > 1:
                yield Chunk(group[0].signature, group[0].key, [chunk.images[0] for chunk in group], positions)

    def keep_each(self, chunk: Chunk, outcome: Outcome) -> None:
        """Keep the answer to a chunk whose images do not stand side by side in the call.

        Raises:
            ServerError: There is none.
        """
        latents = latents_of(good(outcome), self.card, self.asked, len(chunk))
        for row, position in enumerate(chunk.positions):
            self._parts[position] = latents[row : row + 1]

    def latents(self) -> Latents:
        """Return the latents `[n, d]` of all chunks, which are cut from the call in order."""
        ordered = [self._parts[first] for first in sorted(self._parts)]
        if len(ordered) == 1:
            return ordered[0]
        return np.concatenate(ordered) if ordered else np.zeros((0, self.card.latent_dim), np.float32)
