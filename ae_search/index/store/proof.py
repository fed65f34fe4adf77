"""Proving that a generation's files are those that its manifest describes, and remembering that they were.

What was proved is remembered in the user's cache, never in the index: a folder that comes from a stranger must not
vouch for itself (decision 16).
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ae_search.errors import IndexDamagedError
from ae_search.files import open_regular, regular_stat, write_atomically
from ae_search.index.engine import engine_of
from ae_search.index.items.catalogue import CATALOGUE
from ae_search.index.items.names import NAMES, Names
from ae_search.index.items.owners import OWNERS, Owners
from ae_search.index.manifest import FileProof, Manifest
from ae_search.index.private_cache import private_cache
from ae_search.index.shortage import unreadable

Identity = list[int | str]

# File systems count time in ticks of some milliseconds: a file that changed this recently may change again unnoticed.
_SETTLED_S = 2.0
_MAX_PROOF_BYTES = 4096
# Indexes whose proofs are kept, the last ones.
_PROOFS_KEPT = 200


def proved_files(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the files of a generation that never change."""
    own = engine_of(manifest.engine).file
    return (own, CATALOGUE, NAMES) if manifest.most_latents == 1 else (own, CATALOGUE, NAMES, OWNERS)


def describe_file(path: Path) -> FileProof:
    """Return size and digest of a file, read as a stream."""
    with os.fdopen(open_regular(path), "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileProof(os.fstat(file.fileno()).st_size, digest.hexdigest())


def prove_written(folder: Path, manifest: Manifest) -> None:
    """Take note that files are good; for the one who wrote and read them, before they are published."""
    _note(folder, {name: _identity(folder, name, manifest) for name in proved_files(manifest)})


def check_files(folder: Path, manifest: Manifest, *, again: bool = False) -> None:
    """Check the files of a generation; those that were proved before and have not been touched since are taken as good.

    An engine checks nothing: a wrong or truncated file answers nonsense or kills the process.

    Args:
        folder: The generation.
        manifest: Its manifest.
        again: Whether to read every file whatever was proved before.

    Raises:
        IndexDamagedError: A file is missing, cut short, altered or another one.
    """
    proved = {} if again else _remembered(folder)
    now: dict[str, Identity] = {}
    for name in proved_files(manifest):
        if name not in manifest.files:
            raise IndexDamagedError(
                f"{folder}'s manifest does not describe {name}; restore it or build the index anew."
            )
        now[name] = _identity(folder, name, manifest)
        if proved.get(name) != now[name]:
            _check_file(folder / name, manifest.files[name])
            _check_structure(folder / name, manifest)
    newest_ns = max(int(identity[3]) for identity in now.values())
    if proved != now and time.time_ns() - newest_ns > _SETTLED_S * 1e9:
        _note(folder, now)


def _check_file(path: Path, proof: FileProof) -> None:
    try:
        size = regular_stat(path).st_size
        if size != proof.size:
            raise _damaged(path, f"{proof.size} bytes", f"{size} bytes")
        digest = describe_file(path).sha256
    except OSError as error:
        raise unreadable(path, error) from error
    if digest != proof.sha256:
        raise _damaged(path, f"sha256 {proof.sha256}", digest)


def _check_structure(path: Path, manifest: Manifest) -> None:
    engine = engine_of(manifest.engine)
    if path.name == engine.file:
        engine.check(path, manifest.base_shape, manifest.engine)
    elif path.name == NAMES:
        Names(path, manifest.items).check()
    elif path.name == OWNERS:
        Owners(path, manifest.items, manifest.latents).check(manifest.most_latents)


def _identity(folder: Path, name: str, manifest: Manifest) -> Identity:
    """Return what changes with each write (nobody can set the ctime), and what the file was proved to be."""
    try:
        found = regular_stat(folder / name)
    except OSError as error:
        raise unreadable(folder / name, error) from error
    proved = (manifest.items, manifest.latents, manifest.most_latents, manifest.latent_dim, manifest.metric)
    engine = json.dumps([manifest.engine.engine, manifest.engine.to_json()])
    digest = manifest.files[name].sha256
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, digest, *proved, engine]


def _remembered(folder: Path) -> Mapping[str, Identity]:
    """Return what this user has proved of the index that a generation belongs to."""
    try:
        if (path := _proof_of(folder)) is None:
            return {}
        with os.fdopen(open_regular(path), "rb") as file:
            raw = json.loads(file.read(_MAX_PROOF_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _note(folder: Path, identities: dict[str, Identity]) -> None:
    """Take note of a proof; where there is no cache to write, each process proves it anew."""
    with suppress(OSError):
        if (path := _proof_of(folder)) is not None:
            write_atomically(path, json.dumps(identities))
            proofs = sorted(path.parent.glob("*.json"), key=lambda other: other.lstat().st_mtime_ns)
            for old in proofs[:-_PROOFS_KEPT]:
                old.unlink(missing_ok=True)


def _proof_of(folder: Path) -> Path | None:
    """Return where the proof of an index is kept; one file for each, whatever its generation."""
    proofs = private_cache("proofs")
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder.parent))).hexdigest()
    return None if proofs is None else proofs / f"{name[:32]}.json"


def _damaged(path: Path, expected: str, received: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"{path} is damaged or belongs to another index: expected {expected}. Received: {received}. "
        "Restore it or build the index anew."
    )
