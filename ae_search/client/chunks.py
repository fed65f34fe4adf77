"""Cut a call into requests of bounded size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ae_search.contract import FileInputs
from ae_search.errors import ImageError
from ae_search.image_file import check_image, read_image_file

MAX_ROWS = 256
MAX_FILES = 64
MAX_REQUEST_BYTES = 4 * 2**20


def row_chunks(images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Cut `[n, h, w, c]` along n, at most 256 rows and 4 MiB a chunk; no rows give no chunk."""
    rows = max(1, min(MAX_ROWS, MAX_REQUEST_BYTES // max(1, images[:1].nbytes)))
    return [images[start : start + rows] for start in range(0, len(images), rows)]


def file_chunks(
    files: FileInputs, names: list[str], bad: dict[int, ImageError] | None
) -> Iterator[list[tuple[int, bytes]]]:
    """Yield (position, bytes) of at most 64 files and 4 MiB a chunk; files are read as they are needed.

    Args:
        files: Paths, or the bytes of image files.
        names: What to call each in an error.
        bad: Takes the error of each file that is no image by its header; without it the first one is raised.

    Raises:
        ImageError: A file is no image, and there is no `bad`.
    """
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for position, file in enumerate(files):
        try:
            data = _checked_bytes(file, names[position])
        except ImageError as error:
            if bad is None:
                raise
            bad[position] = error
            continue
        if chunk and (len(chunk) >= MAX_FILES or size + len(data) > MAX_REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append((position, data))
        size += len(data)
    if chunk:
        yield chunk


def _checked_bytes(file: Path | str | bytes, name: str) -> bytes:
    if not isinstance(file, bytes):
        return read_image_file(file)
    check_image(file, name)
    return file
