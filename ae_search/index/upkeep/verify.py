"""Checking an index thoroughly: all that opening it takes on trust once it was proved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ae_search.contract import Check
from ae_search.errors import AeSearchError, IndexDamagedError
from ae_search.index.items.changes import CHANGES
from ae_search.index.manifest import MANIFEST, live_generation
from ae_search.index.shortage import ShortageError, shortage_named
from ae_search.index.store.generation import Generation
from ae_search.index.store.proof import check_files
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import compare, queries

_SAMPLE = 200
# An engine picks the candidates by float32 distances, of which equal latents have up to about 5e-4.
_SAME_DISTANCE = 1e-3


def verify(path: Path, seed: int = 0) -> list[Check]:
    """Check everything about an index; it may be searched and changed meanwhile.

    Args:
        path: The index folder.
        seed: Seed of the sample of latents.

    Returns:
        What was checked, up to the first fault that leaves nothing more to check.

    Raises:
        ConfigurationError: `path` is no index, or memory or file descriptors ran out.
    """
    while True:
        folder = live_generation(path)
        checks = _checks_of(folder, seed)
        # A writer may have published the next generation and removed this one meanwhile.
        if all(check.fault is None for check in checks) or live_generation(path) == folder:
            return checks


def _checks_of(folder: Path, seed: int) -> list[Check]:
    opened: list[Snapshot] = []

    def open_it() -> None:
        generation = Generation(folder)
        opened.append(Snapshot(generation, generation.changes.first(), b""))

    checks = [_check(folder, f"{MANIFEST}, sizes and structure of all files", open_it)]
    if opened:
        checks += [_check(folder, what, lambda step=step: step(opened[0], seed)) for what, step in _STEPS]  # type: ignore[misc]
    return checks


def _check(folder: Path, what: str, step: Callable[[], None]) -> Check:
    try:
        with shortage_named(folder):
            step()
    except ShortageError:
        raise
    except (AeSearchError, OSError) as error:
        return Check(what, str(error))
    return Check(what, None)


def _digests(snapshot: Snapshot, seed: int) -> None:
    check_files(snapshot.generation.folder, snapshot.manifest, again=True)


def _catalogue(snapshot: Snapshot, seed: int) -> None:
    count = snapshot.generation.catalogue.check()
    if count != snapshot.manifest.items:
        raise IndexDamagedError(f"The catalogue should hold {snapshot.manifest.items} items. Received: {count}.")


def _names(snapshot: Snapshot, seed: int) -> None:
    for ids, stored in snapshot.generation.catalogue.all_names():
        if (names := snapshot.generation.names.of(ids)) != stored:
            at = next(at for at, name in enumerate(names) if name != stored[at])
            raise IndexDamagedError(f"Item {ids[at]} is {names[at]!r} by its name and {stored[at]!r} in the catalogue.")


def _changes(snapshot: Snapshot, seed: int) -> None:
    snapshot.generation.changes.check()
    for key, item in snapshot.generation.catalogue.ids_of(list(snapshot.delta.keys)).items():
        if not snapshot.is_removed(item):
            raise IndexDamagedError(f"{key!r} is in the base and in {CHANGES}.")


def _sample(snapshot: Snapshot, seed: int) -> None:
    manifest, base = snapshot.manifest, snapshot.generation.base
    chosen = np.random.default_rng(seed).permutation(manifest.latents)[:_SAMPLE].tolist()
    if not chosen:
        return
    for number, query in zip(chosen, queries(base.vectors[chosen]), strict=True):
        # A latent of zeros is near to nothing, not even to itself.
        # One on the border of two cells may have been sorted by another rounding than a query is.
        found = base.candidates(query.latent, 1, 2 * manifest.effort)
        # More than one, where others may be as near.
        distance, _, _ = min(compare(query, found, base.vectors[found], manifest.metric))
        if query.square and distance > _SAME_DISTANCE:
            raise IndexDamagedError(f"Searched by latent {number} of the base, the engine does not return it.")


_STEPS: tuple[tuple[str, Callable[[Snapshot, int], None]], ...] = (
    ("sha256 of the base, the catalogue and the names", _digests),
    ("SQLite's integrity check of the catalogue, and its count", _catalogue),
    ("names against the catalogue", _names),
    ("SQLite's integrity check of the changes, and their keys", _changes),
    ("a sample of latents against the base", _sample),
)
