"""What Milvus holds of an index beside its items: rows of JSON in the live generation, the newest of which counts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.checked_json import MAX_WHOLE, object_of, parsed_object, whole_of
from ae_search.errors import ConfigurationError, IndexDamagedError, NotSupportedError
from ae_search.remote_index import manifest
from ae_search.remote_index.changing import Counts
from ae_search.remote_index.milvus.options import MAX_EFFORT, MilvusOptions
from ae_search.remote_index.milvus.place import Consistency, MilvusPlace
from ae_search.remote_index.milvus.schema import ROWS_PER_ITEM, STATES, width_of
from ae_search.remote_index.milvus.server import Row, Server

Manifest = manifest.Manifest[MilvusOptions]

# A state is cut into rows of so many letters, and has at most so many of them.
_LETTERS, _PARTS = 16_000, 256
_MAX_BYTES = 4 * _LETTERS * _PARTS
_COUNTS = tuple(one.name for one in fields(Counts) if one.name != "manifest")
# Ids that a writer may have used without an end, and which nobody uses again.
VOID = 1 << 24


@dataclass(frozen=True)
class State(Counts):
    """An index at one moment.

    Attributes:
        collection: The live generation.
        number: Counts the changes of the generation, from 1.
        dead: Ids of items that the last change took out, whose rows may still be there.
        voids: First ids of ranges of `VOID` ids that belong to no item, though rows may be there.
        calibration: What was measured about the latents, as JSON by name.
    """

    collection: str
    number: int
    dead: frozenset[int]
    voids: tuple[int, ...]
    calibration: dict[str, str]

    def has(self, row: Row) -> bool:
        """Tell whether a row belongs to an item of this moment."""
        item = int(row["pk"]) // ROWS_PER_ITEM
        return 0 <= item < self.next_id and item not in self.dead and not self._is_void(item)

    def pages(self, ids: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of up to so many ids, in which all items are."""
        start = 0
        for void in (*self.voids, self.next_id):
            for first in range(start, void, ids):
                yield first, min(first + ids, void)
            start = void + VOID

    def drawn(self, random: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Return up to `count` ids that items may have, each once and in order: none of a void."""
        spans = np.array([*self.pages(self.next_id + 1)], np.int64).reshape(-1, 2)
        ends = np.cumsum(spans[:, 1] - spans[:, 0])
        if not ends.size or not ends[-1]:
            return np.empty(0, np.int64)
        at = np.unique(random.integers(ends[-1], size=count))
        span = np.searchsorted(ends, at, side="right")
        found: npt.NDArray[np.int64] = spans[span, 1] - (ends[span] - at)
        return found

    def _is_void(self, item: int) -> bool:
        return any(first <= item < first + VOID for first in self.voids)


def load(server: Server, place: MilvusPlace) -> State:
    """Read the state of an index, as the server has it by now.

    Raises:
        ConfigurationError: There is no such index.
        IndexDamagedError: Its state is damaged.
    """
    state = find(server, place)
    if state is None:
        raise ConfigurationError(f"There is no index at {place.name}; build one with `ae-search index build`.")
    return state


def find(server: Server, place: MilvusPlace) -> State | None:
    """Read the state of an index; None where there is none."""
    collection = server.resolved(place.index)
    if collection is None:
        return None
    fields = ("pk", "key_hash", "metadata")
    rows = server.query(collection, "pk < 0", fields, partition=STATES, level="strong")
    parts: dict[int, dict[int, Row]] = {}
    for row in rows:
        number, part = divmod(-int(row["pk"]) - 1, _PARTS)
        parts.setdefault(number, {})[part] = row
    for number in sorted(parts, reverse=True):
        found = parts[number]
        # All of them came in one call, which may have been cut short.
        if found.keys() == set(range(found[min(found)]["key_hash"])):
            text = "".join(found[part]["metadata"] for part in sorted(found))
            return _read(text, collection, number, place.name)
    raise IndexDamagedError(f"{place.name}: {collection} does not say what it holds; build the index anew.")


def is_newest(server: Server, state: State, level: Consistency) -> bool:
    """Tell whether nothing has been changed since, as far as a level of consistency goes."""
    newer = f"pk < {-_PARTS * (state.number + 1)}"
    return not server.query(state.collection, newer, ("pk",), partition=STATES, level=level, limit=1)


def write(server: Server, state: State, place: str) -> None:
    """Write a state: the step by which a change counts. The one before the last is removed.

    Raises:
        NotSupportedError: It is larger than there is room for.
    """
    text = _to_json(state)
    count = -(-len(text) // _LETTERS)
    if count > _PARTS:
        raise NotSupportedError(
            f"{place}: Milvus holds up to {_LETTERS * _PARTS} letters of what is said of an index, calibration and "
            f"the items of one change among it; nothing was changed. Received: {len(text)}."
        )
    width = width_of(state.manifest.latent_dim)
    rows = [
        {
            "pk": -(state.number * _PARTS + part) - 1,
            **{"key_hash": count, "label_hash": 0, "has": 0, "scale": 0, "key": "", "label": "", "digest": ""},
            "metadata": text[part * _LETTERS : (part + 1) * _LETTERS],
            **{"thumbnail": "", "fields": {}, "latent": [0.0] * width},
        }
        for part in range(count)
    ]
    server.insert(state.collection, rows, STATES)
    if state.number > 2:
        # Not the last one: another shard may be shown without the new one.
        old = state.number - 2
        server.delete(state.collection, (-(old * _PARTS + part) - 1 for part in range(_PARTS)), STATES)


def _to_json(state: State) -> str:
    return json.dumps(
        {
            **{name: getattr(state, name) for name in _COUNTS},
            "dead": sorted(state.dead),
            "voids": state.voids,
            "calibration": state.calibration,
            "manifest": state.manifest.to_json(),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _read(text: str, collection: str, number: int, place: str) -> State:
    try:
        raw = parsed_object(text, max_bytes=_MAX_BYTES)
        counts = {name: whole_of(raw, name, 0, MAX_WHOLE) for name in _COUNTS}
        dead, voids, told = _numbers(raw, "dead"), _numbers(raw, "voids"), raw["manifest"]
        calibration = object_of(raw, "calibration")
        if not isinstance(told, str) or not all(isinstance(value, str) for value in calibration.values()):
            raise ValueError("manifest or calibration are no texts")
    except (ValueError, KeyError, TypeError) as error:
        raise IndexDamagedError(
            f"{place}: what it says of itself is damaged ({error!r:.200}); build the index anew."
        ) from error
    of_engine: Any = Manifest.from_json(told, place, MilvusOptions.from_json, MAX_EFFORT + 1)
    return State(
        **counts,
        manifest=of_engine,
        collection=collection,
        number=number,
        dead=frozenset(dead),
        voids=tuple(voids),
        calibration=calibration,
    )


def _numbers(raw: dict[str, Any], name: str) -> list[int]:
    values = raw[name]
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError(f"{name} are no list of whole numbers")
    return values
