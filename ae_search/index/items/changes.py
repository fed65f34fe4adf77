"""What has changed since the base was built: items added, and ids removed, in one small SQLite file."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import MAX_LATENTS_PER_ITEM, Latents, is_digest, metadata_json, metadata_of
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index.items.delta import Delta
from ae_search.index.manifest import FileProof, Manifest
from ae_search.index.sqlite.database import Database, ids_array
from ae_search.nearest.comparing import first_bad_row
from ae_search.nearest.exact import Rough

CHANGES = "changes.sqlite"
CHANGES_FORMAT = 1
_CALIBRATION_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

# An item that was updated is removed under its old id and added under a new one; ids are never used again.
CHANGES_SCHEMA = f"""
CREATE TABLE added (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, label TEXT, metadata TEXT,
    latents BLOB NOT NULL, jpeg BLOB, digest TEXT
);
CREATE TABLE removed (number INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL UNIQUE);
CREATE TABLE sources (name TEXT PRIMARY KEY);
CREATE TABLE calibration (name TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE base (files TEXT NOT NULL);
PRAGMA user_version = {CHANGES_FORMAT};
"""


class Changes:
    """Reads the changes of a generation.

    Args:
        path: The SQLite file.
        manifest: Manifest of the generation.

    Raises:
        IndexDamagedError: It is missing, cut short, malformed or of another generation.
        ConfigurationError: It has a newer format than this release reads.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path, self._items = path, manifest.items
        self._dim, self._metric = manifest.latent_dim, manifest.metric
        self._database = Database(path, may_change=True)
        ((version,),) = self._database.query("PRAGMA user_version")
        if version > CHANGES_FORMAT:
            raise ConfigurationError(f"{path} has format {version}, newer than {CHANGES_FORMAT}; upgrade ae-search.")
        if version != CHANGES_FORMAT:
            raise self._damaged(f"user_version {version}")
        self._database.check()
        self._database.check_schema(CHANGES_SCHEMA)
        if self._database.query("SELECT files FROM base") != [(digest_of_files(manifest.files),)]:
            raise self._damaged("it belongs to another generation")
        # Nothing else is read of them until somebody asks, or until the index is compacted.
        self.sources()
        self.calibration()

    def first(self) -> Delta:
        """Return all changes.

        Raises:
            IndexDamagedError: A row is not what a writer writes.
        """
        nothing = np.empty((0, self._dim), np.float32)
        return self.after(Delta(np.empty(0, np.int64), Rough.of(nothing, self._metric), last_added=self._items - 1))

    def after(self, seen: Delta) -> Delta:
        """Return all changes, reading only those that came after some that were seen."""
        with self._database.reading() as connection:
            added = connection.execute(
                "SELECT id, key, label, metadata, digest, latents FROM added WHERE id > ? ORDER BY id",
                (seen.last_added,),
            ).fetchall()
            gone = connection.execute(
                "SELECT number, id FROM removed WHERE number > ? ORDER BY number", (seen.last_removed,)
            ).fetchall()
        if not added and not gone:
            return seen
        return self._joined(seen, added, gone)

    def thumbnail(self, item: int) -> bytes | None:
        """Return the JPEG of an added item, None where it has none."""
        rows = self._database.query("SELECT jpeg FROM added WHERE id = ?", (item,))
        return rows[0][0] if rows else None

    def thumbnails(self) -> dict[int, bytes]:
        """Return the JPEG of each added item that has one."""
        return dict(self._database.query("SELECT id, jpeg FROM added WHERE jpeg NOT NULL"))

    def sources(self) -> list[str]:
        """Return the names of the sources that items were added from.

        Raises:
            IndexDamagedError: One is no text.
        """
        names = [name for (name,) in self._database.query("SELECT name FROM sources ORDER BY rowid")]
        if strange := [name for name in names if not isinstance(name, str)]:
            raise self._damaged(f"source {strange[0]!r:.60}")
        return names

    def calibration(self) -> dict[str, dict[str, Any]]:
        """Return what was measured about the latents, by name.

        Raises:
            IndexDamagedError: It is not what a writer writes.
        """
        rows = self._database.query("SELECT name, json FROM calibration ORDER BY name")
        for name, text in rows:
            if not isinstance(name, str) or not _CALIBRATION_NAME.fullmatch(name) or text is None or not _is_json(text):
                raise self._damaged(f"calibration {name!r:.60}")
        return {name: metadata_of(text) for name, text in rows}

    def check(self) -> None:
        """Let SQLite check the whole file.

        Raises:
            IndexDamagedError: It finds a fault.
        """
        self._database.check()

    def _joined(self, seen: Delta, added: list[Any], gone: list[tuple[int, int]]) -> Delta:
        removed, count = seen.removed, seen.removed_count
        if strange := [item for _, item in gone if not isinstance(item, int) or item < 0]:
            raise self._damaged(f"removed id {strange[0]!r}")
        if any(item < self._items for _, item in gone):
            removed = bytearray(removed or self._items)
        dead: set[int] = set()
        for _, item in gone:
            if item >= self._items:
                dead.add(item)
                continue
            count += 1 - removed[item]
            removed[item] = 1
        names, keys, digests = dict(seen.names), dict(seen.keys), dict(seen.digests)
        for item in dead & names.keys():
            del keys[names.pop(item)[0]]
            digests.pop(item, None)
        for item, key, label, metadata, digest, _ in added:
            if item not in dead:
                names[item], keys[key] = (key, label, metadata), item
                if digest is not None:
                    digests[item] = digest
        rough = seen.rough.joined(Rough.of(self._latents(added), self._metric))
        counts = [len(row[-1]) // (4 * self._dim) for row in added]
        ids = np.concatenate([seen.ids, np.repeat(ids_array([row[:1] for row in added]), counts)])
        if dead:
            alive = np.flatnonzero(~np.isin(ids, list(dead)))
            rough, ids = rough.rows(alive), ids[alive]
        return Delta(
            ids,
            rough,
            max([seen.most_latents, *counts]),
            digests,
            names,
            keys,
            removed,
            count,
            added[-1][0] if added else seen.last_added,
            gone[-1][0] if gone else seen.last_removed,
        )

    def _latents(self, added: list[Any]) -> Latents:
        sizes = range(4 * self._dim, 4 * self._dim * MAX_LATENTS_PER_ITEM + 1, 4 * self._dim)
        for item, key, label, metadata, digest, blob in added:
            is_text = isinstance(key, str) and isinstance(label, str | None)
            is_text = is_text and (digest is None or is_digest(digest))
            if not is_text or not _is_metadata(metadata) or not isinstance(blob, bytes) or len(blob) not in sizes:
                raise self._damaged(f"item {item}")
        latents: Latents = np.frombuffer(b"".join(row[-1] for row in added), "<f4").reshape(-1, self._dim)
        if (row := first_bad_row(latents)) is not None:
            raise self._damaged(f"latent {row} of the added ones")
        return latents

    def _damaged(self, what: str) -> IndexDamagedError:
        return IndexDamagedError(f"{self._path} is damaged ({what}); restore it or build the index anew.")


def _is_metadata(text: object) -> bool:
    if text is None:
        return True
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_json(text: object) -> bool:
    """Tell whether a text is metadata as a writer writes them."""
    try:
        return _is_metadata(text) and metadata_json("", metadata_of(str(text))) is not None
    except (ValueError, RecursionError):
        return False


def digest_of_files(files: Mapping[str, FileProof]) -> str:
    """Return one digest for all files of a generation that never change."""
    text = " ".join(f"{name} {proof.sha256}" for name, proof in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def check_calibration(name: str, values: object) -> None:
    """Check what is to be stored about the latents; `metadata_json` checks the values further.

    Raises:
        ValueError: The name is none, or there are no values.
    """
    if not isinstance(name, str) or not _CALIBRATION_NAME.fullmatch(name):
        raise ValueError(
            f"Calibration is named by 1 to 64 letters, digits, dots, dashes and _. Received: {name!r:.80}."
        )
    if values is None:
        raise ValueError(f"The calibration {name!r} must be an object with texts as names. Received: None.")
