"""The nodes of an Annoy file, read without Annoy: to check them before Annoy follows them, and for the items' latents.

All nodes have one size: the first n are the items, then come the trees, each node after its children, and at the end a
copy of each tree's root (annoylib.h, `AnnoyIndex::_make_tree` and `build`). Annoy follows the numbers it finds there
blindly: one beyond the file kills the process, one that leads back never ends, and nodes that several others lead to
are walked through again and again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric
from ae_search.errors import IndexDamagedError
from ae_search.nearest.comparing import MAX_MAGNITUDE, Ids

# Where a node's children and its vector begin, in bytes (annoylib.h, Angular::Node and Minkowski::Node).
_CHILDREN_AT: dict[Metric, int] = {"angular": 4, "euclidean": 8}
_VECTOR_AT: dict[Metric, int] = {"angular": 12, "euclidean": 16}

_BYTES_PER_BLOCK = 4 << 20
# Items are counted when so many of their ids have come together.
_IDS_AT_A_TIME = 1 << 20

_Block = npt.NDArray[np.void]


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
        self._path, self._metric = path, metric
        # One number more than the vector takes: where no vector is needed, child ids go on into its place.
        capacity = latent_dim + 2
        head = _VECTOR_AT[metric]
        size = head + 4 * latent_dim
        layout = np.dtype(
            {
                # The float is an item's squared norm (angular), or how far a plane is from zero (euclidean).
                "names": ["descendants", "float", "children", "vector"],
                "formats": [np.int32, np.float32, (np.uint32, (capacity,)), (np.float32, (latent_dim,))],
                "offsets": [0, 4, _CHILDREN_AT[metric], head],
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

    def check(self, items: int, n_trees: int) -> None:
        """Check that the nodes are what Annoy writes, so that a search ends soon whatever it meets.

        Each tree leads to each item, no node has two parents, and every number is finite. Memory and time grow with the
        file alone.

        Args:
            items: Items that there must be, at least 1.
            n_trees: Trees that there must be.

        Raises:
            IndexDamagedError: They are not.
        """
        total = len(self._nodes)
        # At the least, each tree is one node, which has a copy.
        if total < items + 2 * n_trees:
            raise self._damaged(f"more than {items} nodes, and 2 for each of {n_trees} trees", f"{total} nodes")
        for start, block in self._blocks(0, items):
            self._refuse(start, _bad_items(block))
        trees = _Trees(items, total - n_trees)
        for start, block in self._blocks(items, total - n_trees):
            self._check_trees(start, block, trees)
            if len(trees.roots) > n_trees:
                break
        if len(trees.roots) != n_trees or not trees.is_complete(n_trees):
            raise self._damaged(
                f"{n_trees} trees that lead to each item once, and to no node twice", f"{len(trees.roots)} roots"
            )
        copies = Counter(map(self._digest, trees.roots))
        for node in range(total - n_trees, total):
            copies[self._digest(node)] -= 1
        if any(copies.values()):
            raise self._damaged("a forest that Annoy wrote", f"node {total - n_trees} and on, which copy no root")

    def _blocks(self, start: int, end: int) -> Iterator[tuple[int, _Block]]:
        per_block = max(1, _BYTES_PER_BLOCK // self._nodes.itemsize)
        for at in range(start, end, per_block):
            yield at, np.asarray(self._nodes[at : min(at + per_block, end)])

    def _check_trees(self, start: int, block: _Block, trees: "_Trees") -> None:
        """Check nodes that are no items, and note what they lead to."""
        counts, items = block["descendants"], trees.items
        # A node of one item is that item itself, but for the root of a single one.
        self._refuse(start, (counts < min(2, items)) | (counts > items))
        # A node of few descendants lists their ids, any other one has two children.
        lists, splits = np.flatnonzero(counts <= self._capacity), np.flatnonzero(counts > self._capacity)
        listed = np.arange(self._capacity) < counts[lists, np.newaxis]
        children = block["children"][lists]
        self._refuse(start, lists[((children >= items) & listed).any(axis=1)], at=True)
        pair = block["children"][splits, :2]
        self._refuse(start, splits[(pair >= (start + splits)[:, np.newaxis]).any(axis=1)], at=True)
        # What two children hold adds up to what their parent does, or else a walk may come by a node again and again.
        held = np.asarray(self._nodes)["descendants"][pair].sum(axis=1, dtype=np.int64)
        self._refuse(start, splits[held != counts[splits]], at=True)
        finite = np.isfinite(_squares(block["vector"][splits]))
        if self._metric == "euclidean":
            finite &= np.isfinite(block["float"][splits])
        self._refuse(start, splits[~finite], at=True)
        trees.note(children[listed], pair.ravel(), (start + np.flatnonzero(counts == items)).tolist())

    def _refuse(self, start: int, bad: npt.NDArray[np.bool_] | Ids, *, at: bool = False) -> None:
        """Raise where a node of a block is bad: told by a mask, or by places in the block."""
        places = bad if at else np.flatnonzero(bad)
        if places.size:
            raise self._damaged("a forest that Annoy wrote", f"node {start + int(places[0])} with other numbers")

    def _digest(self, node: int) -> bytes:
        return hashlib.sha256(self._nodes[node].tobytes()).digest()

    def _damaged(self, expected: str, received: str) -> IndexDamagedError:
        return IndexDamagedError(
            f"{self._path} is damaged or belongs to another index: expected {expected}. Received: {received}. "
            "Restore it or build the index anew."
        )


class _Trees:
    """What the nodes from `items` to `end` lead to."""

    def __init__(self, items: int, end: int) -> None:
        self.items = items
        self.roots: list[int] = []
        self._has_parent = np.zeros(end - items, np.bool_)
        self._parents = 0
        self._found = np.zeros(items, np.int64)
        self._ids: list[npt.NDArray[np.uint32]] = []
        self._waiting = 0

    def note(self, listed: npt.NDArray[np.uint32], children: npt.NDArray[np.uint32], roots: list[int]) -> None:
        """Take note of ids in lists, of children of splits, and of nodes that hold all items."""
        nodes = children[children >= self.items] - np.uint32(self.items)
        self._has_parent[nodes] = True
        self._parents += len(nodes)
        self.roots += roots
        for ids in (listed, children[children < self.items]):
            self._ids.append(ids)
            self._waiting += len(ids)
        if self._waiting >= max(_IDS_AT_A_TIME, self.items):
            self._count()

    def is_complete(self, n_trees: int) -> bool:
        """Tell whether each node but the roots has one parent, and each item came as often as there are trees."""
        self._count()
        one_each = np.count_nonzero(self._has_parent) == self._parents == len(self._has_parent) - n_trees
        return bool(one_each and (self._found == n_trees).all())

    def _count(self) -> None:
        if self._ids:
            self._found += np.bincount(np.concatenate(self._ids), minlength=self.items)
        self._ids, self._waiting = [], 0


def _bad_items(block: _Block) -> npt.NDArray[np.bool_]:
    vectors = block["vector"]
    # NaN fails the comparison. The sum bounds each value well enough for Annoy's own sums to be finite.
    most = 1.01 * vectors.shape[1] * MAX_MAGNITUDE**2
    good = (block["descendants"] == 1) & np.isfinite(block["float"]) & (_squares(vectors) <= most)
    bad: npt.NDArray[np.bool_] = ~good
    return bad


def _squares(vectors: Latents) -> Latents:
    with np.errstate(over="ignore", invalid="ignore"):
        squares: Latents = np.vecdot(vectors, vectors)
    return squares
