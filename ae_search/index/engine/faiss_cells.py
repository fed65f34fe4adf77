"""Growing cells with faiss: the centres are learned from a sample, and each latent goes to the nearest."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from ae_search.contract import Latents
from ae_search.index.engine.cells import Centres, prepared, write_cells
from ae_search.index.engine.codes import Ranges
from ae_search.index.options import BaseShape, FaissCodesOptions, FaissOptions

# faiss asks for 39 to 256 latents to learn a centre from; with more than 64 the recall was the same.
_LEARNED_FROM = 64
_ROUNDS = 10
_ROWS_PER_BLOCK = 16_384


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Let this thread's calls of faiss use so many: readers share the cores among themselves."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def flat(centres: Latents, shape: BaseShape) -> Any:
    """Return faiss's index of the centres, a copy of them."""
    kind = faiss.IndexFlatIP if shape.metric == "angular" else faiss.IndexFlatL2
    made = kind(shape.latent_dim)
    if len(centres):
        made.add(np.ascontiguousarray(centres))
    return made


def grow_cells(
    path: Path, latents: Latents, shape: BaseShape, options: FaissOptions, *, seed: int, threads: int
) -> None:
    """Write a file of cells; see `Engine.grow`.

    Args:
        path: Where it goes.
        latents: Float32 `[n, d]`, may be a memory map.
        shape: What the file will hold.
        options: How many cells.
        seed: Seed of the sample and of the first centres.
        threads: Threads to use.
    """
    with threads_of(threads):
        sample, centres = _learned(latents, shape, options.cells(shape.latents), seed)
        nearest = flat(centres.rows, shape)
        owner = np.empty(shape.latents, np.int64)
        for start in range(0, shape.latents, _ROWS_PER_BLOCK):
            block = centres.prepared(latents[start : start + _ROWS_PER_BLOCK])
            owner[start : start + len(block)] = nearest.assign(block, 1)[:, 0]
    coded = isinstance(options, FaissCodesOptions)
    write_cells(path, latents, centres, owner, Ranges.of(centres.prepared(sample)) if coded else None)


def _learned(latents: Latents, shape: BaseShape, cells: int, seed: int) -> tuple[Latents, Centres]:
    """Learn the centres from a sample of latents; return both."""
    size, dim = min(shape.latents, _LEARNED_FROM * cells), shape.latent_dim
    sample = latents[np.sort(np.random.default_rng(seed).choice(shape.latents, size, replace=False))]
    shift = np.zeros(dim, np.float32)
    if shape.metric == "euclidean":
        # faiss adds up squares, which keep more of their digits around zero.
        shift = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    clustering = faiss.Clustering(dim, cells)
    clustering.niter, clustering.seed, clustering.spherical = _ROUNDS, seed % 2**31, shape.metric == "angular"
    # The sample has as many as it should: without these, faiss draws another from it, or warns on stderr.
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, 2 * _LEARNED_FROM
    clustering.train(prepared(sample, shift, shape.metric), flat(sample[:0], shape))
    return sample, Centres(faiss.vector_to_array(clustering.centroids).reshape(cells, dim), shift, shape.metric)
