"""Files wherever Beam's file systems reach: local ones with our own care, the others whole and bounded."""

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from ae_search.data.sources.local_file import read_local
from ae_search.data.sources.source import damaged
from ae_search.errors import ConfigurationError
from ae_search.files import trouble_in_words, write_atomically
from ae_search.image_file import MAX_FILE_MIB

_MAX_BYTES = MAX_FILE_MIB * 2**20


def is_local(place: str) -> bool:
    """Tell whether a place is a path of this machine."""
    return FileSystems.get_scheme(place) is None


def check_reachable(place: str) -> None:
    """Check that Beam has a file system for a place.

    Raises:
        ConfigurationError: It has none, or a package for it is missing.
    """
    try:
        FileSystems.get_filesystem(place)
    except (ValueError, OSError) as error:  # Beam's own is one of the latter
        raise ConfigurationError(f"Beam reaches no such place: {error}.") from error


def below(folder: str, name: str) -> str:
    """Return the place of a name in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def names_in(folder: str, pattern: str) -> list[str]:
    """Return the names in a folder that match a pattern, sorted; none where there is no such folder."""
    if is_local(folder):
        return sorted(path.name for path in Path(folder).glob(pattern))
    return [place.rpartition("/")[2] for place in matching(below(folder, pattern))]


def remove(place: str) -> None:
    """Remove a file, if it is there.

    Raises:
        ConfigurationError: It cannot be removed.
    """
    try:
        if is_local(place):
            Path(place).unlink(missing_ok=True)
        elif FileSystems.exists(place):
            FileSystems.delete([place])
    except OSError as error:
        raise ConfigurationError(f"Cannot remove {place}: {trouble_in_words(error)}.") from error


def matching(pattern: str) -> list[str]:
    """Return the places that a pattern matches, sorted."""
    (found,) = FileSystems.match([pattern])
    return sorted(one.path for one in found.metadata_list)


def stream(place: str) -> BinaryIO:
    """Open a file that is not local, as it is: what is packed stays packed."""
    opened: BinaryIO = FileSystems.open(place, compression_type=CompressionTypes.UNCOMPRESSED)
    return opened


def read_image(place: str, *, count: int | None = None) -> bytes:
    """Return the bytes of an image file.

    Args:
        place: Where it lies.
        count: Bytes to read from its beginning, at most; None for all of it.

    Raises:
        ImageError: It is gone, is no regular file, or is too large to be read as a whole.
    """
    if is_local(place):
        return read_local(place, count=count)
    wanted = _MAX_BYTES + 1 if count is None else count
    parts: list[bytes] = []
    try:
        with stream(place) as file:
            while wanted and (part := file.read(wanted)):
                parts.append(part)
                wanted -= len(part)
    except FileNotFoundError as error:
        raise damaged(place, "there is no such image file") from error
    if count is None and not wanted:
        raise damaged(place, f"larger than {MAX_FILE_MIB} MiB")
    return b"".join(parts)


def read_text(place: str, max_bytes: int) -> bytes | None:
    """Return the bytes of a small file of ours, None where there is none.

    Raises:
        ValueError: It is longer.
    """
    if not FileSystems.exists(place):
        return None
    with stream(place) as file:
        text = file.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise ValueError(f"{place} is longer than {max_bytes} bytes")
    return text


def publish(place: str, write: Callable[[Path], object]) -> None:
    """Let a file appear whole under its name, in place of one that is there.

    Args:
        place: Where.
        write: Writes it to a local path.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        if is_local(place):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            write_atomically(Path(place), write)
        else:
            _upload(place, write)
    except OSError as error:  # Beam's own is one
        raise ConfigurationError(f"Cannot write {place}: {trouble_in_words(error)}.") from error


def _upload(place: str, write: Callable[[Path], object]) -> None:
    with TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        write(made)
        hidden = below(place.rpartition("/")[0], f".tmp-{uuid.uuid4().hex}")
        try:
            with (
                made.open("rb") as file,
                FileSystems.create(hidden, compression_type=CompressionTypes.UNCOMPRESSED) as target,
            ):
                shutil.copyfileobj(file, target)
            if FileSystems.exists(place):  # of a bundle that is done again; some systems rename onto nothing else
                FileSystems.delete([place])
            FileSystems.rename([hidden], [place])
        except BaseException:
            with suppress(ConfigurationError):
                remove(hidden)
            raise
