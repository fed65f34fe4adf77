"""One adapter an engine: build an index file, open it, ask it.

Its library is imported when it is first needed, so that a process holds no other library than that of the engine it
measures. An engine that was not opened yet is only its options, and travels to other processes.
"""

import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ae_search.contract import Latents, ModelCard
from bench.datasets import DIM, DataSet, K
from bench.progress import CORES

_BLOCK = 2048


class MissingLibraryError(Exception):
    """A library that is measured is not installed."""


class Engine(Protocol):
    """An engine under measurement.

    Attributes:
        name: For the report.
        library: The module to import.
        parameter: Name of the parameter that trades time for recall; empty where the search is exact.
        first: Its smallest setting worth trying.
        options: What the index is built with, for the report.
    """

    name: str
    library: str
    parameter: str
    first: int
    options: dict[str, Any]

    def build(self, data: DataSet, folder: Path) -> dict[str, float]:
        """Build an index in a new folder; return seconds by stage, "wall" being those from latents to saved file."""

    def open(self, folder: Path) -> None:
        """Open what `build` saved."""

    def tell(self, setting: int) -> None:
        """Set the query parameter."""

    def query(self, latent: Latents) -> Any:
        """Answer one query `[d]` on one core."""

    def batch(self, latents: Latents) -> Any:
        """Answer queries `[n, d]` on all cores."""

    def ids(self, answer: Any) -> list[int]:
        """Return the items in an answer to one query."""


class Seconds:
    """A stopwatch of stages.

    Attributes:
        stages: Seconds by stage, and "wall" since the start.
    """

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.stages |= {name: now - self._last, "wall": now - self._start}
        self._last = now


def library(name: str) -> Any:
    """Import a library that is measured.

    Raises:
        MissingLibraryError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(f"{name} cannot be imported ({error}); `make bench-index` installs it.") from error


class AeSearch:
    """This package, its options at their defaults.

    Args:
        engine: "annoy" or "faiss".
    """

    library = "ae_search.index"

    def __init__(self, engine: str = "annoy") -> None:
        self.engine = engine
        self.name, self.parameter, self.first = (
            ("ae-search", "search_k", 50) if engine == "annoy" else (f"ae-search {engine}", "nprobe", 1)
        )
        self.options: dict[str, Any] = {}
        self.effort: int | None = None

    def build(self, data: DataSet, folder: Path) -> dict[str, float]:
        """Build the index; the stages are the builder's own."""
        index = library(self.library)
        card = ModelCard("bench", 1, "0" * 64, (28, 28, 1), DIM, "angular")
        latents, labels = np.array(data.latents()), data.labels()
        keys = [f"{data.name}/{item}" for item in range(data.items)]
        clock = Seconds()
        options = index.BuildOptions(library("ae_search.index.options").engine_options(self.engine))
        with index.IndexBuilder(folder, card, options) as builder:
            for start in range(0, data.items, _BLOCK):
                block = slice(start, start + _BLOCK)
                builder.add(latents[block], keys[block], labels[block])
        clock.stage("wall")
        return dict(builder.seconds) | clock.stages

    def open(self, folder: Path) -> None:
        """Open the index."""
        self.index = library(self.library).LatentIndex.open(folder)

    def tell(self, setting: int) -> None:
        """Set the effort; until then it is the index's own."""
        self.effort = setting

    def query(self, latent: Latents) -> Any:
        """Search; the answer holds keys and labels."""
        return self.index.search(latent, K, effort=self.effort)[0]

    def batch(self, latents: Latents) -> Any:
        """Search all in one call."""
        return self.index.search(latents, K, effort=self.effort)

    def ids(self, answer: Any) -> list[int]:
        """Return the numbers that the keys end with."""
        return [int(neighbour.key.rpartition("/")[2]) for neighbour in answer]


class Annoy:
    """Annoy by itself, with the trees and the seed of ae-search's index."""

    name, library, parameter, first = "annoy", "annoy", "search_k", 50

    def __init__(self, n_trees: int, seed: int) -> None:
        self.options: dict[str, Any] = {"n_trees": n_trees, "seed": seed}

    def build(self, data: DataSet, folder: Path) -> dict[str, float]:
        """Grow a forest in memory and save it."""
        forest = library(self.library).AnnoyIndex(DIM, "angular")
        latents = np.array(data.latents())
        clock = Seconds()
        forest.set_seed(self.options["seed"])
        for start in range(0, data.items, _BLOCK):
            # Annoy reads a list several times faster than it reads an array.
            for item, row in enumerate(latents[start : start + _BLOCK].tolist(), start):
                forest.add_item(item, row)
        clock.stage("add")
        forest.build(self.options["n_trees"], n_jobs=-1)
        clock.stage("build")
        folder.mkdir(parents=True)
        forest.save(str(folder / "forest.ann"))
        clock.stage("save")
        return clock.stages

    def open(self, folder: Path) -> None:
        """Map the forest."""
        self.load(folder / "forest.ann")

    def load(self, path: Path) -> None:
        """Map a forest by the path of its file."""
        self.forest = library(self.library).AnnoyIndex(DIM, "angular")
        self.forest.load(str(path))
        self.threads = ThreadPoolExecutor(CORES)

    def tell(self, setting: int) -> None:
        """Set `search_k`."""
        self.search_k = setting

    def query(self, latent: Latents) -> Any:
        """Ask with the row of the array."""
        return self.forest.get_nns_by_vector(latent, K, self.search_k, include_distances=True)

    def batch(self, latents: Latents) -> Any:
        """Ask from one thread a core, each with its share of the rows; Annoy releases the GIL."""
        shares = self.threads.map(lambda core: [self.query(row) for row in latents[core::CORES]], range(CORES))
        return list(shares)

    def ids(self, answer: Any) -> list[int]:
        """Return the ids."""
        return list(answer[0])
