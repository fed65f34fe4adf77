"""Reading what searches map, so that the first of them need not wait for the disk."""

import os

from ae_search.files import open_regular
from ae_search.index.engine import engine_of
from ae_search.index.items.names import NAMES
from ae_search.index.items.owners import OWNERS
from ae_search.index.shortage import unreadable
from ae_search.index.store.snapshot import Snapshot

_BYTES_AT_A_TIME = 8 << 20


def warm(snapshot: Snapshot) -> int:
    """Read the base and the names into the page cache, which all processes share; return how many bytes.

    The catalogue is left out: a search reads it for a filter only, and it may hold gigabytes of thumbnails.
    """
    manifest, folder = snapshot.manifest, snapshot.generation.folder
    names = [engine_of(manifest.engine).file, NAMES] + ([OWNERS] if manifest.most_latents > 1 else [])
    room, read = bytearray(_BYTES_AT_A_TIME), 0
    for name in names:
        try:
            with os.fdopen(open_regular(folder / name), "rb", buffering=0) as file:
                while count := file.readinto(room):
                    read += count
        except OSError as error:
            raise unreadable(folder / name, error) from error
    return read
