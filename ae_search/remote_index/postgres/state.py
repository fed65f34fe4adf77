"""What the database says of an index: its live generation's manifest and counts."""

from dataclasses import dataclass
from functools import cached_property

from ae_search.errors import ConfigurationError
from ae_search.remote_index import manifest
from ae_search.remote_index.changing import Counts
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.options import MAX_EFFORT, HnswOptions
from ae_search.remote_index.postgres.place import PostgresPlace

_COUNTS = "number, epoch, changes, items, latents, most_latents, in_base, added, removed, next_id"
_LOAD = f"""
SELECT {_COUNTS}, manifest::text FROM ae_search.generations
WHERE number = (SELECT generation FROM ae_search.indexes WHERE name = %s)
"""


Manifest = manifest.Manifest[HnswOptions]


@dataclass(frozen=True)
class State(Counts):
    """An index at one moment.

    Attributes:
        number: Number of the live generation.
        epoch: Counts what makes a reader read the manifest again.
        changes: Counts all changes of the generation.
    """

    number: int
    epoch: int
    changes: int

    @cached_property
    def version(self) -> tuple[int, int]:
        """What a reader must know to read right."""
        return self.number, self.epoch


def find(session: Session, place: PostgresPlace) -> State | None:
    """Read the state of an index; None where there is none.

    Raises:
        IndexDamagedError: Its manifest is damaged.
    """
    (row,) = session.execute("SELECT to_regclass('ae_search.calibration')")
    found = None if row[0] is None else session.execute(_LOAD, (place.index,)).fetchone()
    if found is None:
        return None
    *counts, text = found
    told = Manifest.from_json(text or "", place.name, HnswOptions.from_json, MAX_EFFORT + 1)
    return State(**dict(zip(_COUNTS.split(", "), counts, strict=True)), manifest=told)


def load(session: Session, place: PostgresPlace) -> State:
    """Read the state of an index.

    Raises:
        ConfigurationError: There is no such index.
        IndexDamagedError: Its manifest is damaged.
    """
    state = find(session, place)
    if state is None:
        raise ConfigurationError(f"There is no index at {place.name}; build one with `ae-search index build`.")
    return state
