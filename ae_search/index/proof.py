"""Proving that a generation's files are those that its manifest describes, and remembering that they were."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ae_search.errors import IndexDamagedError
from ae_search.files import write_atomically
from ae_search.index.catalogue import CATALOGUE
from ae_search.index.forest import FOREST
from ae_search.index.forest_nodes import Nodes
from ae_search.index.manifest import FileProof, Manifest
from ae_search.index.names import NAMES, Names

PROOF = ".proved.json"
PROVED_FILES = (FOREST, CATALOGUE, NAMES)

Identity = list[int | str]

# File systems count time in ticks of some milliseconds: a file that changed this recently may change again unnoticed.
_SETTLED_S = 2.0
_MAX_PROOF_BYTES = 4096


def describe_file(path: Path) -> FileProof:
    """Return size and digest of a file, read as a stream."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return FileProof(path.stat().st_size, digest.hexdigest())


def prove_written(folder: Path, manifest: Manifest) -> None:
    """Take note that files are good; for the one who wrote and read them, before they are published."""
    _note(folder, {name: _identity(folder, name, manifest) for name in PROVED_FILES})


def check_files(folder: Path, manifest: Manifest, *, again: bool = False) -> None:
    """Check the files of a generation; those that were proved before and have not been touched since are taken as good.

    Annoy itself checks nothing: a wrong or truncated file answers nonsense or kills the process.

    Args:
        folder: The generation.
        manifest: Its manifest.
        again: Whether to read every file whatever was proved before.

    Raises:
        IndexDamagedError: A file is missing, cut short, altered or another one.
    """
    proved = {} if again else _remembered(folder)
    now: dict[str, Identity] = {}
    for name in PROVED_FILES:
        if name not in manifest.files:
            raise IndexDamagedError(
                f"{folder}'s manifest does not describe {name}; restore it or build the index anew."
            )
        now[name] = _identity(folder, name, manifest)
        if proved.get(name) != now[name]:
            _check_file(folder / name, manifest.files[name])
            if name == FOREST and manifest.items:
                Nodes(folder / name, manifest.latent_dim, manifest.metric).check(manifest.items, manifest.n_trees)
            if name == NAMES:
                Names(folder / name, manifest.items).check()
    newest_ns = max(int(identity[3]) for identity in now.values())
    # Where the folder cannot be written, each process proves it anew.
    if proved != now and time.time_ns() - newest_ns > _SETTLED_S * 1e9 and os.access(folder, os.W_OK):
        with suppress(OSError):
            _note(folder, now)


def _check_file(path: Path, proof: FileProof) -> None:
    size = path.stat().st_size
    if size != proof.size:
        raise _damaged(path, f"{proof.size} bytes", f"{size} bytes")
    try:
        digest = describe_file(path).sha256
    except OSError as error:
        raise _unreadable(path, error) from error
    if digest != proof.sha256:
        raise _damaged(path, f"sha256 {proof.sha256}", digest)


def _identity(folder: Path, name: str, manifest: Manifest) -> Identity:
    """Return what changes with each write (nobody can set the ctime), and what the file was proved to be."""
    try:
        stat = (folder / name).stat()
    except OSError as error:
        raise _unreadable(folder / name, error) from error
    proved = manifest.files[name].sha256, manifest.items, manifest.n_trees, manifest.latent_dim, manifest.metric
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, *proved]


def _remembered(folder: Path) -> Mapping[str, Identity]:
    try:
        with (folder / PROOF).open("rb") as file:
            raw = json.loads(file.read(_MAX_PROOF_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _note(folder: Path, identities: dict[str, Identity]) -> None:
    write_atomically(folder / PROOF, json.dumps(identities))


def _unreadable(path: Path, error: OSError) -> IndexDamagedError:
    return IndexDamagedError(f"Cannot read {path}: {error.strerror}; restore it or build the index anew.")


def _damaged(path: Path, expected: str, received: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"{path} is damaged or belongs to another index: expected {expected}. Received: {received}. "
        "Restore it or build the index anew."
    )
