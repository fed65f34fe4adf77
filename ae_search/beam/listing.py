"""Which files are images, below a folder or by a pattern, wherever Beam's file systems reach; their keys and labels."""

import logging
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ae_search.beam.places import check_reachable, is_local, matching
from ae_search.data.sources.folder import first_levels
from ae_search.data.sources.opening import fixed_part, has_wild_cards
from ae_search.data.sources.walking import walk
from ae_search.errors import ConfigurationError
from ae_search.printable import printable

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A file that may be an image.

    Attributes:
        key: Its path below the folder, or below the part of the pattern that is fixed.
        place: Where it lies.
        label: The first folder of its key, None where it has none.
        is_image: Whether it is known to be one: its content was looked at.
    """

    key: str
    place: str
    label: str | None
    is_image: bool


def whole(source: str) -> str:
    """Return a folder or a pattern as it is read from any working directory.

    Raises:
        ConfigurationError: Beam has no file system for it.
    """
    check_reachable(source)
    return os.path.abspath(source) if is_local(source) else source.rstrip("/")


def list_files(source: str, only: Sequence[str] = ()) -> Iterator[Found]:
    """Yield the files of a folder or a pattern, names that begin with a dot left out.

    Args:
        source: A folder, or a pattern in which * stands for any part of a name and ** for any folders; a path, or a URL
            of one of Beam's file systems.
        only: Patterns of file names, for a part of them; see `FolderSource.only`.

    Raises:
        ConfigurationError: There is none.
    """
    count = 0
    for found in _of_folder(source) if is_local(source) and Path(source).is_dir() else _of_pattern(source):
        if not only or any(fnmatchcase(found.key.rpartition("/")[2], pattern) for pattern in only):
            count += 1
            yield found
    if not count:
        named = f" with a name like {' '.join(only)}" if only else ""
        raise ConfigurationError(f"{source} holds no image{named}.")


def _of_folder(source: str) -> Iterator[Found]:
    """Yield what a source of this folder has, by the same walk."""
    found = walk(Path(source))
    for note in found.notes():
        log.warning("%s: %s", source, note)
    for file, label in zip(found.files, first_levels(found.files), strict=True):
        yield Found(file, f"{source}/{file}", label, is_image=True)


def _of_pattern(source: str) -> Iterator[Found]:
    pattern = source if has_wild_cards(source) else f"{source}/**"
    root = fixed_part(pattern)
    places = matching(pattern)
    keys = [place.removeprefix(root) for place in places]
    for key, place, label in zip(keys, places, first_levels(keys), strict=True):
        if any("\ud800" <= letter <= "\udfff" for letter in key):
            log.warning("left out %s, whose name is not valid UTF-8; rename it", printable(place))
        elif not any(part.startswith(".") for part in key.split("/")) and not key.endswith("/"):
            yield Found(key, place, label, is_image=False)
