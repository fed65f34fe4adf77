"""Writing what has changed since the base was built: one transaction at a time."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from ae_search.contract import Items, Latents, Metadata, metadata_json
from ae_search.errors import ConfigurationError
from ae_search.index.items.changes import CHANGES_SCHEMA, digest_of_files
from ae_search.index.manifest import FileProof
from ae_search.index.sqlite.database import blocks, connect, damage_named
from ae_search.index.sqlite.gate import within_sqlite
from ae_search.index.sqlite.side_files import check_written


def create_changes(
    path: Path, items: int, files: Mapping[str, FileProof], calibration: Mapping[str, Metadata] | None = None
) -> None:
    """Write the file of a generation that nothing has changed yet.

    Args:
        path: Where it goes; it must not exist.
        items: Items in the base; added ones count on from there.
        files: The generation's other files, which it will go with and no others.
        calibration: What was measured about the latents, by name.
    """
    rows = [(name, metadata_json(name, values)) for name, values in (calibration or {}).items()]
    with within_sqlite, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(CHANGES_SCHEMA)
        connection.execute("INSERT INTO sqlite_sequence VALUES ('added', ?)", (items - 1,))
        connection.execute("INSERT INTO base VALUES (?)", (digest_of_files(files),))
        connection.executemany("INSERT INTO calibration VALUES (?, ?)", rows)


class ChangesWriter:
    """One transaction on the changes of a generation; the caller holds the index's lock.

    Args:
        path: The SQLite file, which was read meanwhile: no change of a killed writer waits there to be taken back.

    Raises:
        IndexDamagedError: The file or its journal must not be written, as a link.
    """

    def __init__(self, path: Path) -> None:
        check_written(path)
        with ExitStack() as stack:
            # A fork waits for the end of the transaction.
            stack.enter_context(within_sqlite)
            with damage_named(path):
                self._connection = connect(path, "mode=rw", busy_s=30.0)
                stack.callback(self._connection.close)
                self._connection.execute("PRAGMA synchronous = FULL")
                # A cache that spills locks readers out long before the commit.
                self._connection.execute("PRAGMA cache_spill = OFF")
                self._connection.execute("BEGIN IMMEDIATE")
            self._end = stack.pop_all()

    def add(self, items: Items, latents: Iterable[Latents]) -> None:
        """Add items with the latents `[r, d]` of each; their keys must be new.

        Raises:
            ConfigurationError: A key is there already.
        """
        blobs = (own.astype("<f4", copy=False).tobytes() for own in latents)
        rows = zip(items.keys, items.labels, items.metadata, blobs, items.thumbnails, items.digests, strict=True)
        try:
            self._connection.executemany(
                "INSERT INTO added (key, label, metadata, latents, jpeg, digest) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
        except sqlite3.IntegrityError as error:
            raise ConfigurationError("A key is in the index already.") from error

    def remove(self, ids: Sequence[int]) -> None:
        """Take items out, whether the base holds them or they were added."""
        for block in blocks(ids):
            self._connection.execute(f"DELETE FROM added WHERE id IN ({','.join('?' * len(block))})", block)
        self._connection.executemany("INSERT INTO removed (id) VALUES (?)", ((item,) for item in ids))

    def add_source(self, name: str) -> None:
        """Note where items were added from."""
        self._connection.execute("INSERT OR IGNORE INTO sources VALUES (?)", (name,))

    def rename_source(self, old: str, new: str) -> None:
        """Let items that were added have come from a source of another name."""
        self._connection.execute("UPDATE OR REPLACE sources SET name = ? WHERE name = ?", (new, old))

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something that was measured about the latents."""
        self._connection.execute(
            "INSERT OR REPLACE INTO calibration VALUES (?, ?)", (name, metadata_json(name, values))
        )

    def commit(self) -> None:
        """Make the transaction durable."""
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file; what was not committed is taken back."""
        self._end.close()
