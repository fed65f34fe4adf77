"""Index folders whose forests and names an enemy made, re-signed so that every digest is right."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from build_options import build_options

from ae_search.contract import ModelCard
from ae_search.index import IndexBuilder
from ae_search.index.items.changes import CHANGES, digest_of_files
from ae_search.index.manifest import MANIFEST, _with_digest
from ae_search.index.store.proof import describe_file

DIM = 8
_HEAD = {"angular": 3, "euclidean": 4}
_CHILD = {"angular": 1, "euclidean": 2}


def build_index(path: Path, *, items=600, metric="angular", n_trees=4, each=1) -> Path:
    """Build an index as its owner would, of items with so many latents each; return its only generation."""
    rows = np.random.default_rng(3).normal(size=(items, each, DIM)).astype(np.float32)
    card = ModelCard("tiny", 1, "ab" * 32, image_shape=(28, 28, 1), latent_dim=DIM, metric=metric)
    with IndexBuilder(path, card, build_options(n_trees=n_trees, jobs=1)) as builder:
        keys = [f"key-{at}" for at in range(items)]
        builder.add(rows, keys, ["a label"] * items, metadata=[{"number": at} for at in range(items)])
    (generation,) = path.glob("generation-*")
    return generation


def copied(template: Path, path: Path) -> Path:
    """Copy an index that `build_index` built; return the copy's generation."""
    return Path(shutil.copytree(template.parent, path)) / template.name


def sign(generation: Path, **changes) -> None:
    """Let the manifest and the changes vouch for the files as they are now, and the manifest for other values."""
    raw = json.loads((generation / MANIFEST).read_text())
    files = {name: describe_file(generation / name) for name in raw["files"]}
    del raw["sha256"]
    raw |= {"files": {name: vars(proof) for name, proof in files.items()}, **changes}
    (generation / MANIFEST).write_text(_with_digest(raw))
    with closing(sqlite3.connect(generation / CHANGES)) as connection, connection:
        connection.execute("UPDATE base SET files = ?", (digest_of_files(files),))


class Forest:
    """The nodes of a forest as whole numbers `[nodes, words]`, to be changed at will.

    Attributes:
        words: The nodes.
        child: Where a node's children begin.
        capacity: How many items a list may hold.
    """

    def __init__(self, generation: Path, metric="angular") -> None:
        self._file = generation / "forest.ann"
        self._head = _HEAD[metric]
        self.words = np.fromfile(self._file, "<i4").reshape(-1, self._head + DIM)
        self.child, self.capacity = _CHILD[metric], DIM + 2

    @property
    def vectors(self):
        """The nodes' vectors, float32 `[nodes, d]`, a view."""
        return self.words[:, self._head :].view("<f4")

    def node(self, count, children):
        """Return a node of so many descendants."""
        node = np.zeros(self.words.shape[1], "<i4")
        node[0] = count
        node[self.child : self.child + len(children)] = children
        return node

    def write(self, *parts) -> None:
        """Write the nodes, or others."""
        np.concatenate(parts or [self.words]).tofile(self._file)
