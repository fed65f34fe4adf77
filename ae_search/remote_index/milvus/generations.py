"""New generations of an index: a collection that nobody reads, its graph, and one change of the alias to it."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from ae_search.contract import Items, Latents, Metadata, checked_items, metadata_json
from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.nearest.comparing import checked_rows
from ae_search.remote_index.calibrating import check_calibration
from ae_search.remote_index.milvus import state as states
from ae_search.remote_index.milvus.conditions import key_hash
from ae_search.remote_index.milvus.lock import Claim
from ae_search.remote_index.milvus.place import MilvusPlace
from ae_search.remote_index.milvus.reading import Reader
from ae_search.remote_index.milvus.rows import in_blocks, rows_of
from ae_search.remote_index.milvus.schema import (
    ITEMS,
    create_generation,
    generation_name,
    generations_of,
    remove_others,
)
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import Manifest, State
from ae_search.remote_index.milvus.tuning import tune
from ae_search.remote_index.rows import blocks_of

log = logging.getLogger(__name__)

# Milvus builds no graph of fewer, and compares with all of them.
_FEWEST_FOR_A_GRAPH = 1024


class KnownHashes:
    """Numbers that have been seen: sorted arrays, each at least twice as long as the next; 8 bytes for each number."""

    def __init__(self) -> None:
        self._arrays: list[npt.NDArray[np.int64]] = []

    def known(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which of some numbers have been seen."""
        found = np.zeros(len(numbers), bool)
        for one in self._arrays:
            at = np.minimum(np.searchsorted(one, numbers), len(one) - 1)
            found |= one[at] == numbers
        return found

    def add(self, numbers: npt.NDArray[np.int64]) -> None:
        """Remember some numbers."""
        new = np.sort(numbers)
        while self._arrays and len(self._arrays[-1]) < 2 * len(new):
            new = np.sort(np.concatenate([self._arrays.pop(), new]))
        if len(new):
            self._arrays.append(new)


class GenerationWriter:
    """Writes one generation, block by block.

    Args:
        server: The server.
        place: The index.
        collection: Name of the generation, whose collection is there and empty.
        manifest: What it will hold.

    Attributes:
        state: What it holds by now.
        seconds: How long the stages "catalogue", "base" and "tuning" took, in s.
    """

    def __init__(self, server: Server, place: MilvusPlace, collection: str, manifest: Manifest) -> None:
        self.seconds = {"catalogue": 0.0}
        self.state = State(
            items=0,
            latents=0,
            most_latents=1,
            in_base=0,
            added=0,
            removed=0,
            next_id=0,
            manifest=manifest,
            collection=collection,
            number=1,
            dead=frozenset(),
            voids=(),
            calibration={},
        )
        self._server, self._place, self._reader = server, place, Reader(place, server)
        self._known = KnownHashes()

    def __len__(self) -> int:
        return self.state.items

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        *,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        digests: Sequence[str | None] | None = None,
    ) -> None:
        """Add a block of items, all of them or none; see `IndexWriter.add`."""
        rows = checked_rows(latents, keys, self.state.manifest.latent_dim)
        self.add_items(rows, checked_items(keys, labels, metadata, thumbnails, digests))

    def add_items(self, latents: Latents, items: Items) -> None:
        """Append checked items, all of them or none; latents are float32 `[n, r, d]` and finite.

        Raises:
            ConfigurationError: A key is there already.
            NotSupportedError: What an item has is larger than Milvus takes.
        """
        if not len(items):
            return
        start = time.perf_counter()
        hashes = np.array([key_hash(key) for key in items.keys], np.int64)
        self._check_new(items.keys, hashes)
        state = self.state
        ids = range(state.next_id, state.next_id + len(items))
        blocks = list(in_blocks(rows_of(ids, list(latents), items, state.manifest.metric)))
        for block in blocks:
            self._server.insert(state.collection, block, ITEMS)
        self._known.add(hashes)
        self.state = replace(
            state,
            items=state.items + len(items),
            latents=state.latents + latents.shape[0] * latents.shape[1],
            most_latents=max(state.most_latents, latents.shape[1]),
            next_id=state.next_id + len(items),
        )
        self.seconds["catalogue"] += time.perf_counter() - start

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something about the latents beside them; see `Index.calibrate`."""
        check_calibration(name, values)
        text = metadata_json(name, values) or "{}"
        self.state = replace(self.state, calibration={**self.state.calibration, name: text})

    def take_over(self, old: State) -> None:
        """Copy all items of another generation, their ids counting anew."""
        reader = Reader(self._place, self._server)
        rows = reader.stream(thumbnails=True)
        for latents, items in blocks_of(rows, 1024):
            self.add_items(latents, items)
        self.state = replace(self.state, calibration=old.calibration)

    def finish(self) -> None:
        """Wait for the graph, measure it, and write the state."""
        start = time.perf_counter()
        if self.state.latents >= _FEWEST_FOR_A_GRAPH:
            self._wait_for_graph()
        built = time.perf_counter()
        chosen, curve = tune(self._server, self._reader, self.state)
        self.seconds |= {"base": built - start, "tuning": time.perf_counter() - built}
        manifest = replace(
            self.state.manifest,
            effort=chosen.effort,
            recall=chosen.recall,
            recall_curve=curve,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.state = replace(self.state, manifest=manifest, in_base=self.state.items)
        states.write(self._server, self.state, self._place.name)

    def _wait_for_graph(self) -> None:
        collection, rows = self.state.collection, self.state.latents
        log.info("waiting for the graph of %d latents of %s", rows, collection)
        self._server.call_long(lambda client, limit: client.flush(collection, timeout=limit))

        def is_done() -> bool:
            told = self._server.call(lambda client, limit: client.describe_index(collection, "latent", timeout=limit))
            return int((told or {}).get("pending_index_rows", 0)) == 0

        self._server.wait_until(is_done, f"built the graph of {collection}")

    def _check_new(self, keys: Sequence[str], hashes: npt.NDArray[np.int64]) -> None:
        maybe = [key for key, is_known in zip(keys, self._known.known(hashes).tolist(), strict=True) if is_known]
        if maybe:
            known = self._reader.of_keys(self.state, maybe, ("pk", "key"), "session", first=True)
            if known:
                raise ConfigurationError(f"Keys must be unique. Received twice: {next(iter(known))!r}.")


@contextmanager
def new_generation(server: Server, place: MilvusPlace, manifest: Manifest, claim: Claim) -> Iterator[GenerationWriter]:
    """Yield a writer; when the block ends without an error, what it wrote becomes the live generation."""
    remove_others(server, place.index, server.resolved(place.index))
    number = max(generations_of(server, place.index), default=0) + 1
    name = generation_name(place.index, number)
    try:
        create_generation(server, name, manifest.metric, manifest.latent_dim, manifest.options)
        writer = GenerationWriter(server, place, name, manifest)
        yield writer
        writer.finish()
        claim.check()
        _publish(server, place, name)
    finally:
        # The old one, or what was written in vain.
        with suppress(AeSearchError):
            claim.check()  # else it may be what another writer is building
            remove_others(server, place.index, server.resolved(place.index))


def _publish(server: Server, place: MilvusPlace, name: str) -> None:
    """Let the alias lead to a generation: the step by which it is live."""
    if server.resolved(place.index) is None:
        server.call(lambda client, limit: client.create_alias(name, place.index, timeout=limit))
    else:
        server.call(lambda client, limit: client.alter_alias(name, place.index, timeout=limit))
