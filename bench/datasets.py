"""The data sets of the benchmark: made once, kept below `bench/.cache/`."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from bench.progress import in_fresh_process, progress

CACHE = Path(__file__).parent / ".cache"
FASHION = "fashion-mnist"
SYNTHETIC = "synthetic"
DIM = 128
K = 10
QUERIES = 1000
ADDED = 10_000
# The radii are exact to about 1e-8, where 2 - 2 cos cancels.
TOLERANCE = 1e-6

# A mixture in which a forest has about as much to do as with the latents of Fashion-MNIST; see bench/README.md.
CENTRES = 2_000
CENTRE_DIMS = 24
CLUSTER_DIMS = 24
CLUSTER_SCALE = 0.75
NOISE_SCALE = 0.12

_ITEMS_PER_BLOCK = 32_768


@dataclass(frozen=True)
class DataSet:
    """A data set on disk.

    Attributes:
        name: For the report.
        folder: Where its arrays lie.
        items: How many of its latents are used, the first ones.
    """

    name: str
    folder: Path
    items: int

    def latents(self) -> Latents:
        """Return the items, float32 `[items, 128]`, mapped from the file."""
        mapped: Latents = np.load(self.folder / "latents.npy", mmap_mode="r")[: self.items]
        return mapped

    def queries(self) -> Latents:
        """Return the queries, float32 `[1000, 128]`; none of them is an item."""
        queries: Latents = self._load("queries")
        return queries

    def added(self) -> Latents:
        """Return latents that are not items yet, float32 `[10000, 128]`; only a synthetic set has them."""
        added: Latents = self._load("added")
        return added

    def labels(self) -> list[str]:
        """Return one label for each item."""
        return [f"class {number}" for number in self._load("labels")[: self.items].tolist()]

    def radii(self) -> npt.NDArray[np.float64]:
        """Return the angular distance of each query's 10th true neighbour."""
        radii: npt.NDArray[np.float64] = self._load(f"radii-{self.items}")
        return radii

    def about(self) -> dict[str, Any]:
        """Return how it was made."""
        return dict(json.loads((self.folder / "about.json").read_text(encoding="utf-8")))

    def first(self, items: int) -> "DataSet":
        """Return the set of the first items only."""
        return replace(self, items=items)

    def _load(self, name: str) -> Any:
        return np.load(self.folder / f"{name}.npy")


def fashion_mnist(items: int, *, epochs: int, seed: int) -> DataSet:
    """Return latents of Fashion-MNIST's images: items of the training split, queries of the test split.

    The encoder is trained on the items, by the package's default recipe but for a fixed number of epochs.
    """
    told = {"items": items, "epochs": epochs, "seed": seed, "queries": QUERIES}
    return DataSet(FASHION, _made(FASHION, told, _make_fashion_mnist), items)


def synthetic(items: int, *, seed: int) -> DataSet:
    """Return latents of a seeded Gaussian mixture."""
    told = {
        "items": items, "dim": DIM, "centres": CENTRES, "centre_dims": CENTRE_DIMS, "cluster_dims": CLUSTER_DIMS,
        "cluster_scale": CLUSTER_SCALE, "noise_scale": NOISE_SCALE, "seed": seed, "queries": QUERIES, "added": ADDED,
    }  # fmt: skip
    return DataSet(SYNTHETIC, _made(SYNTHETIC, told, _make_synthetic), items)


def ensure_radii(data: DataSet) -> None:
    """Compute the exact distances of the true neighbours, unless that was done before."""
    if not (data.folder / f"radii-{data.items}.npy").exists():
        progress(f"{data.name} {data.items}: exact neighbours of {QUERIES} queries")
        in_fresh_process(_make_radii, data)


def hits(data: DataSet, found: list[list[int]]) -> int:
    """Count the true neighbours among the answers to the first queries.

    As in ann-benchmarks, an item counts when it is no further away than the 10th true neighbour.
    """
    items, total = data.latents(), 0
    for query, radius, ids in zip(data.queries(), data.radii(), found, strict=False):
        distances = _angular(query[np.newaxis], items[np.unique(ids)])[0]
        total += int(np.count_nonzero(distances <= radius + TOLERANCE))
    return total


def _angular(queries: npt.NDArray[Any], items: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    one, many = (rows.astype(np.float64) for rows in (queries, items))
    cosines = (one @ many.T) / np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(many, axis=1))
    distances: npt.NDArray[np.float64] = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
    return distances


def _make_radii(data: DataSet) -> None:
    items, queries = data.latents(), data.queries()
    best = np.full((len(queries), K), np.inf)
    for start in range(0, len(items), _ITEMS_PER_BLOCK):
        distances = _angular(queries, items[start : start + _ITEMS_PER_BLOCK])
        best = np.partition(np.hstack([best, distances]), K - 1, axis=1)[:, :K]
    np.save(data.folder / f"radii-{data.items}.npy", best.max(axis=1))


def _made(name: str, told: dict[str, Any], make: Callable[[Path, dict[str, Any]], None]) -> Path:
    """Return the folder of a data set, which is made in a process of its own where it is missing."""
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    folder = CACHE / "data" / f"{name}-{digest}"
    if not folder.exists():
        progress(f"{name}: making the data set")
        unfinished = folder.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        in_fresh_process(make, unfinished, told)
        unfinished.rename(folder)
    return folder


def _make_fashion_mnist(folder: Path, told: dict[str, Any]) -> None:
    from ae_search.cli.options import load_tensorflow

    load_tensorflow()
    from ae_search.data import ArraySource, open_source
    from ae_search.export import export_encoder
    from ae_search.model_server import LocalEncoder
    from ae_search.training import TrainingOptions, configure, load_autoencoder, train

    source, test = open_source("fashion_mnist/train"), open_source("fashion_mnist/test")
    assert isinstance(source, ArraySource) and isinstance(test, ArraySource)
    source = replace(source, images=source.images[: told["items"]], labels=source.labels[: told["items"]])
    run = folder / "run"
    options = TrainingOptions(epochs=told["epochs"], seed=told["seed"])
    trained = train(source, configure(source, options), run, verbose=False)
    version = export_encoder(load_autoencoder(run).get_layer("encoder"), folder / "export")
    encoder = LocalEncoder(version)
    chosen = np.random.default_rng(told["seed"]).permutation(len(test))[: told["queries"]]
    np.save(folder / "latents.npy", encoder.encode(source.images))
    np.save(folder / "queries.npy", encoder.encode(test.images[chosen]))
    names = {label: number for number, label in enumerate(sorted({str(label) for label in source.labels}))}
    np.save(folder / "labels.npy", np.array([names[str(label)] for label in source.labels]))
    about = told | {"loss": trained["loss"], "training_seconds": trained["seconds"]}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
    for leftover in (run, folder / "export"):
        shutil.rmtree(leftover)


def _make_synthetic(folder: Path, told: dict[str, Any]) -> None:
    rng = np.random.default_rng(told["seed"])
    dim, count = told["dim"], told["items"] + told["queries"] + told["added"]
    centres = rng.standard_normal((told["centres"], told["centre_dims"])) @ basis(rng, told["centre_dims"], dim)
    # Some clusters are large and some are wide, as with real classes.
    weights = rng.lognormal(0.0, 1.0, told["centres"])
    widths = told["cluster_scale"] * rng.lognormal(0.0, 0.25, told["centres"])
    cluster_of = rng.choice(told["centres"], size=count, p=weights / weights.sum())
    latents = np.empty((count, dim), np.float32)
    for cluster in range(told["centres"]):
        rows = np.flatnonzero(cluster_of == cluster)
        spread = rng.standard_normal((len(rows), told["cluster_dims"])) @ basis(rng, told["cluster_dims"], dim)
        latents[rows] = centres[cluster] + widths[cluster] * spread
    latents += told["noise_scale"] * rng.standard_normal((count, dim), dtype=np.float32) / np.float32(np.sqrt(dim))
    ends = np.cumsum([told["items"], told["queries"]])
    for name, part in zip(("latents", "queries", "added"), np.split(latents, ends), strict=True):
        np.save(folder / f"{name}.npy", part)
    np.save(folder / "labels.npy", cluster_of[: told["items"]])
    (folder / "about.json").write_text(json.dumps(told), encoding="utf-8")


def basis(rng: np.random.Generator, dims: int, dim: int) -> npt.NDArray[np.float64]:
    """Return `[dims, dim]` directions, each weaker than the one before, of total variance 1."""
    strengths = 1.0 / np.sqrt(1.0 + np.arange(dims))
    directions = rng.standard_normal((dims, dim)) / np.sqrt(dim)
    scaled: npt.NDArray[np.float64] = directions * (strengths / np.linalg.norm(strengths))[:, np.newaxis]
    return scaled
