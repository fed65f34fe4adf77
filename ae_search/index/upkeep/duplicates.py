"""Groups of items of a snapshot that are almost the same image."""

from collections.abc import Iterator

from ae_search.calibration import Calibration, alike_of
from ae_search.contract import DuplicateGroup, Latents, OnItems, no_progress
from ae_search.index.search.snapshot_search import SnapshotSearch
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.alike import groups_of_alike
from ae_search.nearest.comparing import Found


class _Items:
    """The items of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.has_several = snapshot.has_several

    def __len__(self) -> int:
        return len(self._snapshot)

    def live_ids(self) -> Iterator[list[int]]:
        return map(list, self._snapshot.live_ids())

    def latents(self, ids: list[int]) -> Latents:
        return self._snapshot.latents(ids)

    def found(self, latents: Latents, k: int) -> list[list[Found]]:
        return SnapshotSearch(self._snapshot, k, None).run(latents, list)

    def keys(self, ids: list[int]) -> list[str]:
        return [key for key, _, _ in self._snapshot.names(ids)]


def find_duplicates(
    snapshot: Snapshot,
    similarity: float | None,
    calibration: Calibration | None = None,
    *,
    on_progress: OnItems = no_progress,
) -> list[DuplicateGroup]:
    """Find groups of items that are almost the same; see `groups_of_alike`.

    Args:
        snapshot: The index.
        similarity: Least cosine similarity of two items that count as almost the same, in (0, 1]. None: see
            `alike_of`.
        calibration: The index's.
        on_progress: Called with the number of items done since the last call.

    Raises:
        ValueError: `similarity` is out of range.
    """
    alike = alike_of(similarity, calibration, several=snapshot.has_several)
    return groups_of_alike(_Items(snapshot), *alike, on_progress=on_progress)
