"""Groups of items of an index on Milvus that are almost the same."""

from collections.abc import Iterator

import numpy as np

from ae_search.contract import Latents
from ae_search.nearest.comparing import Found
from ae_search.remote_index.milvus.reading import Reader
from ae_search.remote_index.milvus.rows import latents_of
from ae_search.remote_index.milvus.schema import ROWS_PER_ITEM
from ae_search.remote_index.milvus.searching import Search
from ae_search.remote_index.milvus.server import Row, Server

_IDS_AT_A_TIME = 1024


class LiveItems:
    """The items of an index as they are now; what is removed meanwhile is near to nothing.

    Args:
        server: The server.
        reader: Reads the index.
    """

    def __init__(self, server: Server, reader: Reader) -> None:
        self._server, self._reader = server, reader
        state = reader.newest_state()
        self.has_several, self._count, self._dim = state.most_latents > 1, state.items, state.manifest.latent_dim

    def __len__(self) -> int:
        return self._count

    def live_ids(self) -> Iterator[list[int]]:
        """Yield the ids of all items, ascending, in blocks."""
        ids = self._reader.read(
            lambda state, level: [
                int(row["pk"]) // ROWS_PER_ITEM
                for rows in self._reader.pages(state, level, ("pk",), latents=False)
                for row in rows
                if int(row["pk"]) % ROWS_PER_ITEM == 0
            ]
        )
        for start in range(0, len(ids), _IDS_AT_A_TIME):
            yield ids[start : start + _IDS_AT_A_TIME]

    def latents(self, ids: list[int]) -> Latents:
        """Return the first latent of each item, float32 `[n, d]`."""
        rows = self._rows(ids, ("pk", "scale", "latent"))
        found = dict(zip(rows, latents_of(list(rows.values()), self._dim), strict=True))
        gone = np.zeros(self._dim, np.float32)
        return np.array([found.get(item, gone) for item in ids], np.float32).reshape(len(ids), self._dim)

    def found(self, latents: Latents, k: int) -> list[list[Found]]:
        """Return the k nearest items of each latent."""
        answers = self._reader.read(
            lambda state, level: Search(self._server, self._reader, state, level, k).run(latents)
        )
        return [[(one.distance, one.id, one.similarity) for one in row] for row in answers]

    def keys(self, ids: list[int]) -> list[str]:
        """Return the keys of some items."""
        rows = self._rows(ids, ("pk", "key"))
        return [str(rows[item]["key"]) for item in ids if item in rows]

    def _rows(self, ids: list[int], fields: tuple[str, ...]) -> dict[int, Row]:
        found: dict[int, Row] = {}
        for start in range(0, len(ids), _IDS_AT_A_TIME):
            listed = ", ".join(str(item * ROWS_PER_ITEM) for item in ids[start : start + _IDS_AT_A_TIME])
            rows = self._reader.read(
                lambda state, level, listed=listed: self._reader.stored(  # type: ignore[misc]
                    state, f"pk in [{listed}]", fields, level
                )
            )
            found |= {int(row["pk"]) // ROWS_PER_ITEM: row for row in rows}
        return found
