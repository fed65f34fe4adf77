"""Groups of items of an index on PostgreSQL that are almost the same."""

from collections.abc import Iterator

import numpy as np

from ae_search.contract import Latents
from ae_search.nearest.comparing import Found
from ae_search.remote_index.postgres.reading import Reader
from ae_search.remote_index.postgres.rows import latents_of
from ae_search.remote_index.postgres.searching import Search

_IDS_AT_A_TIME = 4096


class LiveItems:
    """The items of an index as they are now; what is removed meanwhile is near to nothing.

    Args:
        reader: Reads the index.
        index: Its name.
    """

    def __init__(self, reader: Reader, index: str) -> None:
        self._reader, self._index = reader, index
        state = reader.state()
        self.has_several, self._count, self._dim = state.most_latents > 1, state.items, state.manifest.latent_dim

    def __len__(self) -> int:
        return self._count

    def live_ids(self) -> Iterator[list[int]]:
        """Yield the ids of all items, ascending, in blocks."""
        ids = [row[0] for row in self._reader.rows("SELECT id FROM {table} WHERE at = 0 ORDER BY id")]
        for start in range(0, len(ids), _IDS_AT_A_TIME):
            yield ids[start : start + _IDS_AT_A_TIME]

    def latents(self, ids: list[int]) -> Latents:
        """Return the first latent of each item, float32 `[n, d]`."""
        rows = self._reader.rows("SELECT id, latent FROM {table} WHERE id = ANY(%s) AND at = 0", (ids,))
        found = dict(zip([row[0] for row in rows], latents_of([row[1] for row in rows], self._dim), strict=True))
        gone = np.zeros(self._dim, np.float32)
        return np.array([found.get(item, gone) for item in ids], np.float32).reshape(len(ids), self._dim)

    def found(self, latents: Latents, k: int) -> list[list[Found]]:
        """Return the k nearest items of each latent."""
        answers = self._reader.read(lambda session, state: Search(self._index, state, k).run(session, latents))
        return [[(one.distance, one.id, one.similarity) for one in row] for row in answers]

    def keys(self, ids: list[int]) -> list[str]:
        """Return the keys of some items."""
        rows = self._reader.rows("SELECT id, key FROM {table} WHERE id = ANY(%s) AND at = 0", (ids,))
        found = dict(rows)
        return [found[item] for item in ids if item in found]
