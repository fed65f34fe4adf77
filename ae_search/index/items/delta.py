"""The changes as one search sees them."""

import sqlite3
import threading
import weakref
from dataclasses import dataclass, field
from functools import cached_property

from ae_search.index.items.conditions import SqlCondition
from ae_search.index.items.names import Name
from ae_search.index.sqlite.database import ids_array
from ae_search.index.sqlite.gate import within_sqlite
from ae_search.nearest.comparing import Ids
from ae_search.nearest.exact import Rough


@dataclass(frozen=True)
class Delta:
    """The changes as one search sees them; it never changes itself.

    Attributes:
        ids: Ids `[m]` of the items that the added latents belong to, ascending.
        rough: These latents, prepared for exact search.
        most_latents: Most latents that an added item has.
        names: Key, label and metadata by id, ascending.
        digests: Digests by id, of those that have one.
        keys: Ids by key.
        removed: One byte for each item of the base, 1 where it is removed; empty while none is.
        removed_count: How many of the base's items are removed.
        last_added: Largest id seen.
        last_removed: Largest removal seen.
    """

    ids: Ids
    rough: Rough
    most_latents: int = 1
    digests: dict[int, str] = field(default_factory=dict)
    names: dict[int, Name] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    removed: bytearray = field(default_factory=bytearray)
    removed_count: int = 0
    last_added: int = -1
    last_removed: int = 0
    _table_lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def matching(self, condition: SqlCondition) -> Ids:
        """Return the ids of added items that meet a condition, ascending."""
        sql, values = condition
        with self._table_lock, within_sqlite:
            return ids_array(self._table.execute(f"SELECT id FROM added WHERE {sql} ORDER BY id", values).fetchall())

    @cached_property
    def _table(self) -> sqlite3.Connection:
        """The names as a table in memory: the file may be further on by now."""
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, connection.close)
        connection.execute("CREATE TABLE added (id INTEGER PRIMARY KEY, key TEXT, label TEXT, metadata TEXT)")
        rows = ((item, *name) for item, name in self.names.items())
        connection.executemany("INSERT INTO added VALUES (?, ?, ?, ?)", rows)
        return connection
