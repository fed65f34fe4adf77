"""Annoy: growing a forest, and mapping one that was checked first."""

import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from annoy import AnnoyIndex

from ae_search.checked_json import MAX_COUNT
from ae_search.contract import ALL_CORES, Latents, Resources
from ae_search.cores import cores
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.files import umask
from ae_search.index.engine.annoy_nodes import Nodes
from ae_search.index.engine.annoy_probe import check_annoy
from ae_search.index.options import AnnoyOptions, BaseShape
from ae_search.nearest.comparing import Ids

_ROWS_PER_BLOCK = 4096


class AnnoyEngine:
    """A forest that is mapped into memory, for as long as anybody refers to it; see `Engine`."""

    name: ClassVar[str] = AnnoyOptions.engine
    file: ClassVar[str] = "forest.ann"
    looks = 1

    def __init__(self, path: Path, shape: BaseShape) -> None:
        """Map a forest; `open` is the same."""
        check_annoy()
        self.shape = shape
        self._annoy = AnnoyIndex(shape.latent_dim, shape.metric)
        self._exhaustive = 1
        if not shape.latents:
            self.vectors: Latents = np.empty((0, shape.latent_dim), np.float32)
            return
        try:
            self._annoy.load(str(path))
        except OSError as error:
            raise IndexDamagedError(f"Annoy cannot map {path} ({error}).") from error
        # Not its trees: of a tiny forest, Annoy counts each root twice.
        if self._annoy.get_n_items() != shape.latents:
            raise IndexDamagedError(
                f"{path} is damaged or belongs to another index: expected {shape.latents} latents. "
                f"Received: {self._annoy.get_n_items()}. Restore it or build the index anew."
            )
        self.vectors = Nodes(path, shape.latent_dim, shape.metric).vectors(shape.latents)
        # A search of this many candidates walks through all trees.
        self._exhaustive = min(shape.latents * self._annoy.get_n_trees(), MAX_COUNT)

    @classmethod
    def open(cls, path: Path, shape: BaseShape, options: AnnoyOptions) -> Self:
        """Map a forest that was checked."""
        return cls(path, shape)

    @classmethod
    def probe(cls) -> None:
        """Check that Annoy was compiled for this processor; see `check_annoy`."""
        check_annoy()

    @classmethod
    def check(cls, path: Path, shape: BaseShape, options: AnnoyOptions) -> None:
        """Check the nodes of a stranger's forest; see `Nodes.check`."""
        if shape.latents:
            Nodes(path, shape.latent_dim, shape.metric).check(shape.latents, options.n_trees)

    @classmethod
    def grow(
        cls, path: Path, latents: Latents, shape: BaseShape, options: AnnoyOptions, *, seed: int, resources: Resources
    ) -> Self:
        """Build a forest; see `Engine.grow`."""
        n, dim = latents.shape
        if not n:
            path.touch()
            return cls(path, shape)
        check_annoy()
        needed = _room(n, dim, options.n_trees)
        _check_disk(path, n, needed)
        annoy = AnnoyIndex(dim, shape.metric)
        annoy.set_seed(seed)
        if resources.on_disk or (resources.on_disk is None and needed > _free_memory() / 2):
            annoy.on_disk_build(str(path))
            path.chmod(0o666 & ~umask())  # Annoy lets nobody else read it
        for start in range(0, n, _ROWS_PER_BLOCK):
            # Annoy reads a list several times faster than it reads an array.
            for item, row in enumerate(latents[start : start + _ROWS_PER_BLOCK].tolist(), start):
                annoy.add_item(item, row)
        annoy.build(options.n_trees, n_jobs=cores() if resources.jobs == ALL_CORES else resources.jobs)
        annoy.save(str(path))
        annoy.unload()
        return cls(path, shape)

    @property
    def most_effort(self) -> int:
        """The `search_k` that looks at every latent."""
        return self._exhaustive

    def first_effort(self, k: int, options: AnnoyOptions) -> int:
        """Return the `search_k` to try first when it is tuned for k neighbours."""
        return max(1, k * options.n_trees // 4)

    def selection(self, numbers: Ids) -> None:
        """Return None: Annoy always looks at all latents."""

    def candidates(self, latent: npt.NDArray[Any], k: int, effort: int, only: None = None) -> list[int]:
        """Return the numbers of about the k nearest latents, the nearest first; see `Engine.candidates`.

        Args:
            latent: Float32 `[d]`.
            k: How many, in [1, n]; so many always come back.
            effort: Annoy's `search_k`; raised only while fewer than k come out.
            only: None.
        """
        # Annoy reads a list several times faster than it reads an array.
        floats, effort = latent.tolist(), min(effort, self._exhaustive)
        found: list[int] = self._annoy.get_nns_by_vector(floats, k, effort)
        while len(found) < k and effort < self._exhaustive:
            effort = min(4 * effort, self._exhaustive)
            found = self._annoy.get_nns_by_vector(floats, k, effort)
        return found

    def candidates_of_many(self, latents: Latents, k: int, effort: int) -> list[list[int]]:
        """Return the same for each of many latents `[m, d]`: Annoy takes one at a time."""
        return [self.candidates(row, k, effort) for row in latents]


def _room(items: int, dim: int, n_trees: int) -> int:
    """Return about the bytes that a build may need at its largest."""
    # A leaf holds up to d + 2 ids; trees were seen to take 3n / (d + 2) nodes, and the file to grow by 30 %.
    nodes = items + n_trees * (4 * items // (dim + 2) + 4)
    return int(1.3 * nodes * (16 + 4 * dim))


def _check_disk(path: Path, items: int, needed: int) -> None:
    # Annoy writes through a sparse mapping: on a full disk the process dies of SIGBUS instead of raising.
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ConfigurationError(
            f"A forest of {items} latents needs up to {needed / 2**20:.1f} MiB beside {path.parent}. Received: "
            f"{free / 2**20:.1f} MiB, so the disk is full; make room, and run the same command again."
        )


def _free_memory() -> float:
    """Return the bytes of memory that are available, without limit where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return float("inf")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024.0 if match else float("inf")
