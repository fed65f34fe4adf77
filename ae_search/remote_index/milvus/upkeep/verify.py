"""Checking an index on Milvus thoroughly."""

from collections.abc import Callable
from contextlib import closing

import numpy as np

from ae_search.contract import Check
from ae_search.errors import AeSearchError, IndexDamagedError
from ae_search.nearest.comparing import compare, queries
from ae_search.remote_index.asking import unit
from ae_search.remote_index.milvus.conditions import key_hash
from ae_search.remote_index.milvus.options import MAX_EFFORT
from ae_search.remote_index.milvus.place import MilvusPlace
from ae_search.remote_index.milvus.reading import Reader
from ae_search.remote_index.milvus.rows import WITH_LATENT, latents_of, names_of, scaled_queries
from ae_search.remote_index.milvus.schema import ITEMS, ROWS_PER_ITEM
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import State, load

_SAMPLE = 100
_NEAR = 10
# Squared float32 sums of some digits less.
_SAME_DISTANCE = 1e-3


def verify(place: MilvusPlace) -> list[Check]:
    """Check everything about an index; it may be searched meanwhile.

    Returns:
        What was checked, up to the first fault that leaves nothing more to check.

    Raises:
        ConfigurationError: There is no index.
        ServerError: The server does not answer.
    """
    with closing(Server(place)) as server:
        try:
            state = load(server, place)
        except IndexDamagedError as error:
            return [Check("the manifest", str(error))]
        reader = Reader(place, server)
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("counts, keys and latents of items", lambda: _rows(reader, state)),
            ("a sample of latents against the graph", lambda: _sample(server, reader, state)),
        )
        return [Check("the manifest", None), *(_check(what, step) for what, step in steps)]


def _check(what: str, step: Callable[[], None]) -> Check:
    try:
        step()
    except AeSearchError as error:
        return Check(what, str(error))
    return Check(what, None)


def _rows(reader: Reader, state: State) -> None:
    """Read every row, as a reader would, and count."""
    items = latents = 0
    for rows in reader.pages(state, "strong", (*WITH_LATENT, "key_hash")):
        latents_of(rows, state.manifest.latent_dim)
        own: dict[int, list[int]] = {}
        for row in rows:
            key, *_ = names_of(row)
            if row["key_hash"] != key_hash(key):
                raise IndexDamagedError(f"The row of {key!r:.80} is not found by its key.")
            item, at = divmod(int(row["pk"]), ROWS_PER_ITEM)
            own.setdefault(item, []).append(at)
        if any(sorted(ats) != list(range(len(ats))) for ats in own.values()):
            raise IndexDamagedError("The rows of an item do not belong together.")
        items, latents = items + len(own), latents + len(rows)
    if (items, latents) != (state.items, state.latents):
        raise IndexDamagedError(
            f"There should be {state.items} items with {state.latents} latents. Received: {items} with {latents}."
        )


def _sample(server: Server, reader: Reader, state: State) -> None:
    manifest = state.manifest
    drawn = state.drawn(np.random.default_rng(0), 4 * _SAMPLE) * ROWS_PER_ITEM
    if not drawn.size:
        return
    listed = ", ".join(map(str, drawn.tolist()))
    rows = reader.stored(state, f"pk in [{listed}]", WITH_LATENT, "strong")[:_SAMPLE]
    if not rows:
        return
    asked = queries(latents_of(rows, manifest.latent_dim))
    units = np.array([unit(query, manifest.metric) for query in asked], np.float32)
    answers = server.search(
        state.collection,
        scaled_queries(units, manifest.latent_dim),
        WITH_LATENT,
        partition=ITEMS,
        level="strong",
        limit=_NEAR,
        effort=MAX_EFFORT,
    )
    for row, query, found in zip(rows, asked, answers, strict=True):
        near = latents_of(found, manifest.latent_dim)
        distances = [distance for distance, _, _ in compare(query, range(len(found)), near, manifest.metric)]
        # A latent of zeros is near to nothing, not even to itself.
        if query.square and min(distances, default=np.inf) > _SAME_DISTANCE * max(1.0, float(np.sqrt(query.square))):
            raise IndexDamagedError(
                f"Searched by item {int(row['pk']) // ROWS_PER_ITEM}, the graph does not return it."
            )
