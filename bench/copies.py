"""The benchmark of copies: `make bench-copies BENCH_ARGS='--export MODEL'`.

Photographs below AE_SEARCH_DATA are altered in twenty ways at 224 px, and searched for among all of them: by pixels,
by PDQ and pHash, and by the latents of any export, with and without views, in an index with and without regions. Then
half of the originals are hidden, and copies lie among the photographs for `index duplicates` to find.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ae_search.evaluation.measures.copy_alterations import ALTERATION_SETS, EVERYDAY, HARD, AlterationSet, altered
from bench import report
from bench.datasets import CACHE
from bench.duplicates import duplicates_table, measured_duplicates
from bench.progress import progress

if TYPE_CHECKING:
    from ae_search import ImageSearch
    from ae_search.data import Source

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

SHAPE = (224, 224, 3)
SIDE_PX = 64
COUNT = 200
SEED = 0
PACKAGES = ("ae-search", "numpy", "pillow", "pdqhash", "imagehash")


@dataclass(frozen=True)
class Copies:
    """How many photographs are altered, and in which ways."""

    count: int
    which: AlterationSet


def main() -> None:
    """Run the benchmark and write its figures and tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", action="append", default=[], help="model base path; may be repeated")
    parser.add_argument("--count", type=int, default=COUNT, help="photographs that are altered")
    parser.add_argument("--only-duplicates", action="store_true", help="measure nothing else")
    parser.add_argument("--set", choices=["everyday", "hard", "all"], default="all", help="ways to alter them")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exports = {base: Path(base) for base in arguments.export}
    results: dict[str, Any] = {"machine": report.machine(PACKAGES)}
    if not arguments.only_duplicates:
        results |= measured_copies(exports, arguments.count, arguments.set)
    results["duplicates"] = measured_duplicates(exports, arguments.count)
    if "rows" in results:
        folder = CACHE / "trial"
        folder.mkdir(parents=True, exist_ok=True)
        print(f"wrote {report.write_figures(results, 'copies', folder)}")
        print(copies_table(results["rows"]))
    print(duplicates_table(results["duplicates"]))


def measured_copies(exports: Mapping[str, Path], count: int, which: AlterationSet = "all") -> dict[str, Any]:
    """Measure how many altered copies find their originals.

    Args:
        exports: Model base paths, by the name of their rows.
        count: Photographs that are altered.
        which: The ways in which they are altered.
    """
    chosen = Copies(count, which)
    rows = [*by_hashes(chosen), *(row for name, base in exports.items() for row in by_latents(name, base, chosen))]
    return {"count": count, "rows": rows}


def by_hashes(copies: Copies) -> list[dict[str, Any]]:
    """Measure pixels, PDQ and pHash, each compared with every photograph."""
    from bench.pictures import photographs_of

    pixels = photographs_of(SHAPE)
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(pixels))[: copies.count])
    ways: dict[str, tuple[int, Callable[[Pixels], Vectors]]] = {
        f"pixels {SIDE_PX}x{SIDE_PX}": (3 * SIDE_PX**2, _small),
        "PDQ, 256 bits": (32, _pdq),
        "pHash, 256 bits": (32, _phash),
    }
    rows = []
    for name, (size, vectors) in ways.items():
        progress(f"copies by {name}")
        rows.append({"name": name, "bytes": size} | _searched(vectors, pixels, chosen, copies.which))
    return rows


def _searched(
    vectors: Callable[[Pixels], Vectors], pixels: Pixels, chosen: Any, which: AlterationSet
) -> dict[str, Any]:
    from ae_search.evaluation.measures.no_original import ranked

    items, found, told, right, spent = _unit(vectors(pixels)), {}, [], [], []
    hidden = np.arange(len(chosen)) % 2 == 1
    for way in ALTERATION_SETS[which]:
        copies = altered(pixels[chosen], way, seed=SEED)
        began = time.perf_counter()
        scores = _unit(vectors(copies)) @ items.T
        spent.append(1e3 * (time.perf_counter() - began) / len(copies))
        found[way] = float((scores.argmax(axis=1) == chosen).mean())
        scores[np.flatnonzero(hidden), chosen[hidden]] = -np.inf
        told.append(scores.max(axis=1))
        right.append((scores.argmax(axis=1) == chosen) & ~hidden)
    average, recall = ranked(np.concatenate(told), np.concatenate(right), len(found) * int((~hidden).sum()))
    missing = {"similarity": {"micro-AP": average, "recall at precision 0.9": recall}}
    return {"found_first": found, "ms": float(np.median(spent)), "missing": missing}


def by_latents(label: str, base: Path, copies: Copies) -> list[dict[str, Any]]:
    """Measure an export by the same pictures as the hashes, with and without views and regions."""
    from ae_search import ImageSearch, LatentIndex
    from ae_search.data import open_source
    from ae_search.indexing import index_source
    from ae_search.model_server import LocalEncoder
    from bench.pictures import photographs_folder

    source, encoder = open_source(str(photographs_folder())), LocalEncoder(base)
    rows: list[dict[str, Any]] = []
    for regions in (False, True):
        progress(f"copies by {label}{', with regions' if regions else ''}")
        with tempfile.TemporaryDirectory() as folder:
            index_source(source, encoder, Path(folder, "index"), regions=regions)
            with LatentIndex.open(Path(folder, "index")) as index:
                size = index.info().latents * index.latent_dim * 4 // len(index)
                for views in (False, True):
                    name = f"{label}{', views' if views else ''}{', regions' if regions else ''}"
                    found = _found_by(ImageSearch(encoder, index), source, copies, views=views)
                    rows.append({"name": name, "bytes": size} | found)
    return rows


def _found_by(search: "ImageSearch", source: "Source", copies: Copies, *, views: bool) -> dict[str, Any]:
    from ae_search.evaluation.measures.no_original import ranked
    from bench.pictures import photographs_of

    pixels = photographs_of(SHAPE)
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(pixels))[: copies.count])
    own = [source.key(int(at)) for at in chosen]
    found, spent, told = {}, [], []
    for way in ALTERATION_SETS[copies.which]:
        images = list(altered(pixels[chosen], way, seed=SEED))
        began = time.perf_counter()
        answers = search.originals_batch(images, 2, views=views)
        spent.append(1e3 * (time.perf_counter() - began) / len(images))
        found[way] = float(np.mean([row[0].neighbour.key == key for row, key in zip(answers, own, strict=True)]))
        for number, (row, key) in enumerate(zip(answers, own, strict=True)):
            hidden = number % 2 == 1
            best = next(one for one in row if not (hidden and one.neighbour.key == key))
            told.append((best.neighbour.similarity, best.score, not hidden and best.neighbour.key == key))
    similarities, scores, right = np.array(told, float).T
    there = len(found) * ((len(own) + 1) // 2)
    missing = {}
    for kind, by in (("similarity", similarities), ("score", scores)):
        average, recall = ranked(by, right > 0, there)
        missing[kind] = {"micro-AP": average, "recall at precision 0.9": recall}
    return {"found_first": found, "ms": float(np.median(spent)), "missing": missing}


def copies_table(rows: list[dict[str, Any]]) -> str:
    """Return what was found first by alteration, and what was told where half of the originals are hidden."""
    ways = list(rows[0]["found_first"])
    cells = [[way, *(f"{row['found_first'][way]:.2f}" for row in rows)] for way in ways]
    for name, group in (("the everyday ones", EVERYDAY), ("the harder ones", HARD)):
        if some := [way for way in ways if way in group]:
            cells.append([name, *(f"{np.mean([row['found_first'][way] for way in some]):.3f}" for row in rows)])
    for kind in ("similarity", "score"):
        for figure in ("micro-AP", "recall at precision 0.9"):
            told = [row["missing"].get(kind, {}).get(figure) for row in rows]
            cells.append([f"{figure}, by {kind}", *("" if one is None else f"{one:.3f}" for one in told)])
    cells.append(["bytes an item", *(str(row["bytes"]) for row in rows)])
    cells.append(["ms a query", *(f"{row['ms']:.1f}" for row in rows)])
    return report.table(["", *(row["name"] for row in rows)], cells)


def _small(images: Pixels) -> Vectors:
    from ae_search.evaluation.reading import shrunk

    return shrunk(images, (SIDE_PX, SIDE_PX, 3)).reshape(len(images), -1).astype(np.float32)


def _pdq(images: Pixels) -> Vectors:
    import pdqhash

    return np.stack([pdqhash.compute(image)[0] for image in images]).astype(np.float32) * 2 - 1


def _phash(images: Pixels) -> Vectors:
    import imagehash
    from PIL import Image

    hashes = [imagehash.phash(Image.fromarray(image), hash_size=16).hash.ravel() for image in images]
    return np.stack(hashes).astype(np.float32) * 2 - 1


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


if __name__ == "__main__":
    main()
