"""The nodes of an Annoy file, read without Annoy: to check them before Annoy follows them, and for the items' latents.

All nodes have one size: the first n are the items, then come the trees (annoylib.h, `AnnoyIndex::_make_tree`). Annoy
follows the numbers it finds there blindly: one beyond the file kills the process, one that leads back never ends.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric
from ae_search.errors import IndexDamagedError

# Where a node's children and its vector begin, in bytes (annoylib.h, Angular::Node and Euclidean::Node).
_CHILDREN_AT: dict[Metric, int] = {"angular": 4, "euclidean": 8}
_VECTOR_AT: dict[Metric, int] = {"angular": 12, "euclidean": 16}

_NODES_PER_BLOCK = 65_536


class Nodes:
    """Maps the nodes of a forest.

    Args:
        path: The file.
        latent_dim: Floats in one latent.
        metric: Annoy's name of the distance.

    Raises:
        IndexDamagedError: The file's size is no multiple of a node's.
    """

    def __init__(self, path: Path, latent_dim: int, metric: Metric) -> None:
        self._path = path
        # One number more than the vector takes: where no vector is needed, child ids go on into its place.
        capacity = latent_dim + 2
        head = _VECTOR_AT[metric]
        size = head + 4 * latent_dim
        layout = np.dtype(
            {
                "names": ["descendants", "children", "vector"],
                "formats": [np.int32, (np.int32, (capacity,)), (np.float32, (latent_dim,))],
                "offsets": [0, _CHILDREN_AT[metric], head],
                "itemsize": size,
            }
        )
        if not path.stat().st_size or path.stat().st_size % size:
            raise self._damaged(f"nodes of {size} bytes", f"{path.stat().st_size} bytes")
        self._nodes = np.memmap(path, layout, mode="r")
        self._capacity = capacity

    def vectors(self, items: int) -> Latents:
        """Return the latents of the first nodes, float32 `[items, d]`, a view of the file."""
        vectors: Latents = np.asarray(self._nodes)["vector"][:items]
        return vectors

    def check(self, items: int) -> None:
        """Check that every number in the nodes leads to a node that may be there.

        Raises:
            IndexDamagedError: One does not.
        """
        total = len(self._nodes)
        if total <= items:
            raise self._damaged(f"more than {items} nodes", str(total))
        for start in range(0, total, _NODES_PER_BLOCK):
            block = np.asarray(self._nodes[start : start + _NODES_PER_BLOCK])
            ids = np.arange(start, start + len(block))
            is_item = ids < items
            bad = np.flatnonzero(np.where(is_item, block["descendants"] != 1, self._leads_astray(block, ids, items)))
            if bad.size:
                raise self._damaged("a forest that Annoy wrote", f"node {start + int(bad[0])} with other numbers")

    def _leads_astray(
        self, block: npt.NDArray[np.void], ids: npt.NDArray[np.int64], items: int
    ) -> npt.NDArray[np.bool_]:
        """Tell for each node whether it has a child that cannot be; children lie before their parents."""
        counts, children = block["descendants"], block["children"]
        bad: npt.NDArray[np.bool_] = counts < 1
        # A node of few descendants lists their ids, any other one has two children.
        lists = (counts <= self._capacity) & (ids >= items)
        outside = (children < 0) | (children >= items)
        listed = np.arange(self._capacity) < counts[:, np.newaxis]
        bad |= lists & (outside & listed).any(axis=1)
        pair = children[:, :2]
        bad |= ~lists & ((pair < 0) | (pair >= ids[:, np.newaxis])).any(axis=1)
        # What two children hold adds up to what their parent does, or else a walk may come by a node again and again.
        inner = np.flatnonzero(~lists & ~bad & (ids >= items))
        held = np.asarray(self._nodes["descendants"][pair[inner]], np.int64).sum(axis=1)
        bad[inner[held != counts[inner]]] = True
        return bad

    def _damaged(self, expected: str, received: str) -> IndexDamagedError:
        return IndexDamagedError(
            f"{self._path} is damaged or belongs to another index: expected {expected}. Received: {received}. "
            "Restore it or build the index anew."
        )
