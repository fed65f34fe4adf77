"""Cut a call into requests of bounded size, and a refused request into smaller ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from ae_search.client.rpc_errors import BatchTooLargeError
from ae_search.contract import IMAGE_BYTES, IMAGES, SIGNATURE_BYTES, FileInput
from ae_search.errors import ImageError
from ae_search.image_file import bytes_for_graph

MAX_ROWS = 256
MAX_FILES = 64
# With its frame a request stays below 4 MiB, where gRPC servers and proxies stop unless told otherwise.
MAX_REQUEST_BYTES = 4 * 2**20 - 64 * 2**10
# A refused request is cut into so many: one bad image among 64 costs 16 more requests, 64 bad ones 72.
PARTS = 8


@dataclass
class ChunkLimits:
    """How much one request may carry; a server that batches may take less, which its refusal tells.

    Attributes:
        rows: Images of pixels.
        files: Image files.
        rescued: Whether the server has answered a request, sent by itself, that it had refused before.
        in_vain: Requests that it has refused since, although they can be decoded here.
    """

    rows: int = MAX_ROWS
    files: int = MAX_FILES
    rescued: bool = False
    in_vain: int = 0

    def lower(self, rows: int) -> None:
        """Take note of what a server takes at most."""
        self.rows, self.files = min(self.rows, rows), min(self.files, rows)

    def note_rescue(self) -> None:
        """Take note of that asking again helped."""
        self.rescued, self.in_vain = True, 0


@dataclass(slots=True)
class Chunk:
    """The images of one request.

    Attributes:
        signature: The signature they go to.
        key: Its input.
        images: Pixels `[n, h, w, c]`, or n image files.
        positions: Where each stands in the call.
    """

    signature: str
    key: str
    images: npt.NDArray[Any] | list[bytes] = field(repr=False)
    positions: range | list[int]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.positions)

    def __lt__(self, other: "Chunk") -> bool:
        """Return whether this stands before the other in the call."""
        return self.positions[0] < other.positions[0]

    def parts(self, error: ImageError) -> list["Chunk"]:
        """Return smaller chunks of the same images: as many as the error asks for."""
        rows = error.limit if isinstance(error, BatchTooLargeError) else 0
        rows = max(1, rows if 0 < rows < len(self) else -(-len(self) // PARTS))
        cuts = [slice(start, start + rows) for start in range(0, len(self), rows)]
        return [Chunk(self.signature, self.key, self.images[cut], self.positions[cut]) for cut in cuts]


def row_chunks(images: npt.NDArray[Any], signature: str, limits: ChunkLimits) -> Iterator[Chunk]:
    """Cut pixels `[n, h, w, c]` along n; no rows give no chunk."""
    start, row_bytes = 0, max(1, images[:1].nbytes)
    while start < len(images):
        rows = max(1, min(limits.rows, MAX_REQUEST_BYTES // row_bytes))
        part = images[start : start + rows]
        yield Chunk(signature, IMAGES, part, range(start, start + len(part)))
        start += rows


def file_chunks(
    files: list[FileInput],
    limits: ChunkLimits,
    bad: dict[int, ImageError],
    *,
    stop_at_bad: bool = False,
    max_megapixels: float | None = None,
) -> Iterator[Chunk]:
    """Yield the bytes of files, which are read, and turned into what the graph decodes, as they are needed.

    Args:
        files: Paths, or the bytes of image files.
        limits: How many files a request may carry.
        bad: Takes the error of each file that is no image by its header, or cannot be turned into PNG.
        stop_at_bad: Whether to end at the first such file, once those before it are sent.
        max_megapixels: Pixels that an image may have, in millions, None for the limit of its format.
    """
    chunk: dict[int, bytes] = {}
    size = 0
    for position, file in enumerate(files):
        try:
            data = bytes_for_graph(file, name_of(files, position), max_megapixels=max_megapixels)
        except ImageError as error:
            if stop_at_bad and chunk:
                yield Chunk(SIGNATURE_BYTES, IMAGE_BYTES, list(chunk.values()), list(chunk))
            bad[position] = error
            if stop_at_bad:
                return
            continue
        if chunk and (len(chunk) >= limits.files or size + len(data) > MAX_REQUEST_BYTES):
            yield Chunk(SIGNATURE_BYTES, IMAGE_BYTES, list(chunk.values()), list(chunk))
            chunk, size = {}, 0
        chunk[position] = data
        size += len(data)
    if chunk:
        yield Chunk(SIGNATURE_BYTES, IMAGE_BYTES, list(chunk.values()), list(chunk))


def name_of(files: list[FileInput], position: int) -> str:
    """Return what to call a file in an error."""
    file = files[position]
    return f"image {position}" if isinstance(file, bytes) else str(file)
