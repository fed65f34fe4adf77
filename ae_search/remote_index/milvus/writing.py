"""Changes to an index: one writer at a time; a change counts from the moment when its state is written.

Rows of a change are written first. Their ids are beyond those of the state that readers know, so no reader counts them.
One row of state then makes them count, and those that it names as dead no more. At last the dead rows are removed.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ae_search.contract import Items, Latents, Metadata, metadata_json
from ae_search.errors import AeSearchError
from ae_search.remote_index.calibrating import check_calibration
from ae_search.remote_index.changing import ItemChanges
from ae_search.remote_index.manifest import check_model
from ae_search.remote_index.milvus import state as states
from ae_search.remote_index.milvus.lock import Claim, hold
from ae_search.remote_index.milvus.place import MilvusPlace
from ae_search.remote_index.milvus.reading import Reader, read_rows
from ae_search.remote_index.milvus.rows import WITH_ALL, in_blocks, rows_of
from ae_search.remote_index.milvus.schema import ITEMS, ROWS_PER_ITEM, remove_others
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import VOID, State

log = logging.getLogger(__name__)

_IDS_AT_ONCE = 2048
_RANGES_AT_ONCE = 64


class Change(ItemChanges[State]):
    """A change to an index whose claim is held; see `changing`.

    Args:
        server: The server.
        place: The index.
        state: The index before the change.

    Attributes:
        has_written: Whether rows may be there that no state counts yet.
    """

    def __init__(self, server: Server, place: MilvusPlace, state: State) -> None:
        super().__init__(state)
        self.has_written = False
        self._server, self._reader = server, Reader(place, server)
        self._dead: dict[int, int] = {}

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store what was measured about the latents; see `Index.calibrate`."""
        check_calibration(name, values)
        text = metadata_json(name, values) or "{}"
        self.state = replace(self.state, calibration={**self.state.calibration, name: text})

    @property
    def dead(self) -> dict[int, int]:
        """How many latents each item has that this change takes out, by its id."""
        return self._dead

    def _ids(self, keys: Sequence[str]) -> dict[str, int]:
        found = self._reader.of_keys(self.state, keys, ("pk", "key"), "strong", first=True)
        return {key: int(found[key][0]["pk"]) // ROWS_PER_ITEM for key in keys if key in found}

    def _read(self, keys: Sequence[str]) -> tuple[Items, list[Latents]]:
        found = self._reader.of_keys(self.state, keys, WITH_ALL, "strong", first=False)
        dim = self.state.manifest.latent_dim
        rows = [list(read_rows(found[key], dim, thumbnails=True)) for key in keys]
        first = [own[0] for own in rows]
        items = Items(
            keys,
            [row.label for row in first],
            [row.metadata for row in first],
            [row.thumbnail for row in first],
            [row.digest for row in first],
        )
        return items, [np.array([row.latent for row in own], np.float32) for own in rows]

    def _insert(self, ids: Sequence[int], rows: Sequence[Latents], items: Items) -> None:
        # All of them are checked before the first one is written.
        blocks = list(in_blocks(rows_of(ids, rows, items, self.state.manifest.metric)))
        for block in blocks:
            self.has_written = True
            self._server.insert(self.state.collection, block, ITEMS)

    def _delete_rows(self, ids: Sequence[int], rows: Sequence[Latents] | None) -> int:
        if rows is None:
            counts = self._latents_of(ids)
        else:
            counts = {item: len(own) for item, own in zip(ids, rows, strict=True)}
        self._dead |= counts
        return sum(counts.values())

    def _ids_of_updated(self, ids: Sequence[int]) -> Sequence[int]:
        # The old rows answer until the new ones count.
        self._count_removed(ids)
        return self._new_ids(len(ids))

    def _latents_of(self, ids: Sequence[int]) -> dict[int, int]:
        counts = dict.fromkeys(ids, 1)
        if self.state.most_latents == 1:
            return counts
        counts = dict.fromkeys(ids, 0)
        for start in range(0, len(ids), _RANGES_AT_ONCE):
            ranges = " or ".join(
                f"(pk >= {one * ROWS_PER_ITEM} and pk < {(one + 1) * ROWS_PER_ITEM})"
                for one in ids[start : start + _RANGES_AT_ONCE]
            )
            for row in self._reader.stored(self.state, ranges, ("pk",), "strong"):
                counts[int(row["pk"]) // ROWS_PER_ITEM] += 1
        return counts


@contextmanager
def changing(server: Server, place: MilvusPlace, fingerprint: str | None, wait_s: float) -> Iterator[Change]:
    """Hold the claim for one change, which every reader at the level "strong" sees when this ends.

    Args:
        server: The server.
        place: The index.
        fingerprint: Fingerprint of the caller's model; None where it does not matter.
        wait_s: How long to wait for another writer, in s.

    Raises:
        IndexBusyError: Another process writes the index.
        ModelMismatchError: The index holds the latents of another model.
    """
    with hold(server, place, wait_s) as claim:
        before = prepared(server, place, claim)
        check_model(before.manifest, fingerprint, place.name)
        change = Change(server, place, before)
        try:
            yield change
            if change.state == before:
                return
            claim.check()
            after = replace(change.state, number=before.number + 1, dead=frozenset(change.dead))
            change.has_written = True
            states.write(server, after, place.name)
        except BaseException:
            if change.has_written:
                _give_up(server, place, claim)
            raise
        try:
            remove_rows(server, before.collection, change.dead)
        except AeSearchError as error:
            # The change is made, and readers know what is dead. The next writer must clear up before it forgets that.
            log.warning("%s: rows of removed items are left to the next writer: %s", place.name, error)
            claim.abandoned = True


def prepared(server: Server, place: MilvusPlace, claim: Claim) -> State:
    """Return the state to begin a change with, after clearing up what a writer left that is gone."""
    state = states.load(server, place)
    remove_others(server, place.index, state.collection)
    if claim.took_over:
        remove_rows(server, state.collection, dict.fromkeys(state.dead, state.most_latents))
        state = _voided(server, place, state)
    return state


def remove_rows(server: Server, collection: str, dead: dict[int, int]) -> None:
    """Remove the rows of items that count no more, by their ids and how many latents each has."""
    numbers = [item * ROWS_PER_ITEM + at for item, count in dead.items() for at in range(count)]
    for start in range(0, len(numbers), _IDS_AT_ONCE):
        server.delete(collection, numbers[start : start + _IDS_AT_ONCE], ITEMS)


def _give_up(server: Server, place: MilvusPlace, claim: Claim) -> None:
    """Let nobody use the ids again that a change may have written, whenever its calls arrive."""
    try:
        claim.check()  # who took over has seen to these ids, and writes states of its own
        _voided(server, place, states.load(server, place))
    except BaseException as error:
        log.warning("%s: the next writer clears up, once this claim is old: %s", place.name, error)
        claim.abandoned = True


def _voided(server: Server, place: MilvusPlace, state: State) -> State:
    after = replace(state, number=state.number + 1, next_id=state.next_id + VOID, voids=(*state.voids, state.next_id))
    states.write(server, after, place.name)
    return after
