"""What only the second engine, or having two, makes new; `tests/index_contract` asks all else of both."""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from index_fixtures import *  # noqa: F403
from index_fixtures import CARD, clustered, only_generation
from index_oracle import Oracle

from ae_search.contract import Resources
from ae_search.errors import ConfigurationError
from ae_search.index import AnnoyOptions, BuildOptions, FaissCodesOptions, FaissOptions, IndexBuilder, LatentIndex
from ae_search.index.engine import engine_of
from ae_search.index.options import BaseShape, engine_options
from ae_search.index.search import filters

COUNT = 24_000
WIDE = {"label": {"in": ["label-1", "label-3", "label-4"]}}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Indexes of both engines with more items than a narrow filter leaves, and their latents."""
    rows, made = clustered(COUNT, seed=5), {}
    for options in (AnnoyOptions(4), FaissOptions(), FaissCodesOptions()):
        path = tmp_path_factory.mktemp("large") / options.engine
        with IndexBuilder(path, CARD, BuildOptions(options, resources=Resources(1))) as builder:
            for start in range(0, COUNT, 6000):
                keys = range(start, start + 6000)
                builder.add(rows[start : start + 6000], [f"key-{i}" for i in keys], [f"label-{i % 5}" for i in keys])
        made[options.engine] = path
    return made, rows


def numbers(answers):
    return [[int(n.key.removeprefix("key-")) for n in row] for row in answers]


def nearest(rows, queries, chosen):
    """Return the numbers of the ten nearest among some, by angle."""
    units = rows[chosen] / np.linalg.norm(rows[chosen], axis=1, keepdims=True)
    return chosen[np.argsort(-(queries @ units.T), axis=1)[:, :10]]


@pytest.mark.parametrize("engine", ["annoy", "faiss", "faiss-8bit"])
@pytest.mark.parametrize("how", ["of four labels", "of three", "near each other"])
def test_wide_filters_that_are_asked_often_find_the_nearest(large, engine, how, monkeypatch):
    monkeypatch.setattr(filters, "_NARROW_WITHOUT_SELECTION", 5000)
    made, rows = large
    ids = np.arange(COUNT)
    if how == "near each other":
        # All in one part of the space, and the queries in others as well.
        chosen = np.flatnonzero(rows[:, 0] > np.quantile(rows[:, 0], 0.5))
        where = {"key": {"in": [f"key-{i}" for i in chosen]}}
    else:
        chosen = np.flatnonzero(np.isin(ids % 5, [1, 3, 4] if how == "of three" else [0, 1, 2, 3]))
        where = WIDE if how == "of three" else {"label": {"lt": "label-4"}}
    queries = rows[np.random.default_rng(6).integers(COUNT, size=50)] + np.float32(0.02)
    truth = nearest(rows, queries, chosen)
    with LatentIndex.open(made[engine]) as index:
        for _ in range(2):
            one_by_one = [index.search(query, where=where)[0] for query in queries]
            together = index.search(queries, where=where)
            for answers in (numbers(one_by_one), numbers(together)):
                assert all(len(row) == 10 and set(row) <= set(chosen.tolist()) for row in answers)
                share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(answers, truth.tolist(), strict=True)])
                assert share >= 0.95


def test_a_wide_filter_sees_what_was_removed_since(large, tmp_path):
    made, rows = large
    path = shutil.copytree(made["faiss"], tmp_path / "index")
    with LatentIndex.open(path) as index:
        for _ in range(6):
            (found,) = index.search(rows[1], where=WIDE)
        gone = [n.key for n in found[:3]]
        index.remove(gone)
        for _ in range(6):
            (found,) = index.search(rows[1], where=WIDE)
            assert len(found) == 10 and not {n.key for n in found} & set(gone)


@pytest.mark.parametrize("engine", ["annoy", "faiss", "faiss-8bit"])
def test_batches_find_what_single_queries_find(large, engine):
    made, rows = large
    queries = rows[:200] + np.float32(0.01)
    with LatentIndex.open(made[engine]) as index:
        assert index.search(queries) == [index.search(query)[0] for query in queries]
        assert index.search(queries, 300, effort=1) == [index.search(query, 300, effort=1)[0] for query in queries]


@pytest.mark.parametrize("engine", ["annoy", "faiss"])
def test_items_of_many_latents_are_found_as_often_as_exact_search_finds_them(tmp_path, engine):
    """The nearest latents are often of the same items, so many more are looked at than are wanted."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(100, 32))[rng.integers(100, size=4000)] + 0.5 * rng.normal(size=(4000, 32))
    rows = (items[:, np.newaxis] + 0.35 * rng.normal(size=(4000, 19, 32))).astype(np.float32)
    card = replace(CARD, latent_dim=32)
    with IndexBuilder(
        tmp_path / "index", card, BuildOptions(engine_options(engine), resources=Resources(1))
    ) as builder:
        for start in range(0, 4000, 500):
            builder.add(rows[start : start + 500], [str(i) for i in range(start, start + 500)])
    queries = rows[rng.integers(4000, size=100), rng.integers(19, size=100)] + np.float32(0.1)
    with LatentIndex.open(tmp_path / "index") as index:
        found, truth = index.search(queries), index.search(queries, exact=True)
        both = [len({n.key for n in a} & {n.key for n in b}) for a, b in zip(found, truth, strict=True)]
        assert np.mean(both) / 10 >= 0.9


@pytest.mark.parametrize("kind", [FaissOptions, FaissCodesOptions])
@pytest.mark.parametrize("metric", ["angular", "euclidean"])
@pytest.mark.parametrize("dim", [1, 7, 8])
def test_odd_sizes(tmp_path, metric, dim, kind):
    """Lists of an odd number of latents are padded, so that numbers lie on whole words."""
    rows = np.random.default_rng(dim).normal(size=(333, dim)).astype(np.float32)
    shape, options = BaseShape(333, dim, metric), kind(n_cells=20)
    engine = engine_of(options)
    base = engine.grow(tmp_path / "cells.bin", rows, shape, options, seed=1, resources=Resources(1))
    engine.check(tmp_path / "cells.bin", shape, options)
    np.testing.assert_array_equal(base.vectors, rows)
    assert sorted(base.candidates(rows[0], 333, 1)) == list(range(333))


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((100, 8)),
        np.ones((100, 8)),
        np.full((100, 8), 1e7),
        np.eye(8).repeat(30, axis=0),
        1e6 + np.random.default_rng(0).normal(size=(300, 8)),
        1e-30 * np.random.default_rng(0).normal(size=(300, 8)),
    ],
    ids=["zeros", "equal", "largest", "few", "far from zero", "tiny"],
)
@pytest.mark.parametrize("kind", [FaissOptions, FaissCodesOptions])
@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_latents_that_are_hard_to_sort(tmp_path, rows, metric, kind):
    rows = rows.astype(np.float32)
    shape, options = BaseShape(*rows.shape, metric), kind()
    engine = engine_of(options)
    base = engine.grow(tmp_path / "cells.bin", rows, shape, options, seed=1, resources=Resources(1))
    engine.check(tmp_path / "cells.bin", shape, options)
    # More than were asked for, where others are as near as the last.
    for found in (base.candidates(rows[3], 50, 1), list(base.candidates_of_many(rows[:3], 50, 1)[0])):
        assert len(found) == len(set(found)) >= 50
        assert set(found) <= set(range(len(rows)))


def test_one_thread_builds_the_same_file_each_time(tmp_path):
    rows = clustered(3000)
    files = []
    for name in ("one", "two"):
        options = BuildOptions(FaissOptions(), resources=Resources(1), seed=7)
        with IndexBuilder(tmp_path / name, CARD, options) as builder:
            builder.add(rows, [f"key-{i}" for i in range(3000)])
        files.append((only_generation(tmp_path / name) / "cells.bin").read_bytes())
    assert files[0] == files[1]


def test_an_index_moves_from_engine_to_engine_and_back(small):
    path, oracle = small
    with LatentIndex.open(path) as index, LatentIndex.open(path) as reader:
        for engine in ("faiss", "faiss", "annoy", "faiss-8bit", "faiss"):
            before = index.info()
            index.compact(engine=engine)
            assert index.info().engine == engine
            # There was nothing to do the second time.
            assert (index.info().generation == before.generation) is (before.engine == engine)
            oracle.check(reader)
            (file,) = [one.name for one in only_generation(path).iterdir() if one.suffix in (".ann", ".bin")][:1]
            assert (only_generation(path) / engine_of(engine_options(engine)).file).is_file(), file
            index.add(clustered(1, seed=9), ["another"])
            oracle.add(clustered(1, seed=9), ["another"])
            oracle.check(reader)
            index.remove(["another"])
            oracle.remove(["another"])
            index.compact()
            assert index.info().engine == engine
        with pytest.raises(ConfigurationError, match="annoy, faiss, faiss-8bit"):
            index.compact(engine="hnswlib")


def test_an_index_moves_to_another_engine_with_the_latents_of_another_model(small):
    path, oracle = small
    other = replace(CARD, version=2, fingerprint="cd" * 32)
    with LatentIndex.open(path) as index:
        keys = list(oracle.items)
        rows = clustered(len(keys), seed=12)
        info = index.rebuild(other, lambda some: rows[[keys.index(key) for key in some]], engine="faiss")
        assert (info.engine, info.model.version, info.items) == ("faiss", 2, len(keys))
        for engine in (None, "faiss"):
            with index.rebuilding(replace(CARD, fingerprint="ef" * 32), engine=engine) as writer:
                for latents, items in index.blocks():
                    writer.add_items(latents, items)
            assert index.info().engine == "faiss"
        with pytest.raises(ConfigurationError, match="annoy, faiss, faiss-8bit"):
            index.rebuilding(CARD, engine="hnswlib")
        found = index.search(rows[3], 1, fingerprint="ef" * 32)
    assert found[0][0].key == keys[3]


@pytest.mark.parametrize("engine", ["annoy", "faiss"])
def test_equal_latents_pass_verify(tmp_path, engine):
    """An engine may return more than one where others are as near."""
    path = tmp_path / "index"
    with IndexBuilder(path, CARD, BuildOptions(engine_options(engine))) as builder:
        builder.add(clustered(20).repeat(5, axis=0), [f"key-{i}" for i in range(100)])
    with LatentIndex.open(path) as index:
        assert [check.fault for check in index.verify() if check.fault] == []


@pytest.mark.parametrize("engine", ["annoy", "faiss"])
def test_warming_reads_what_a_search_maps(small, engine):
    path, _ = small
    with LatentIndex.open(path) as index:
        index.add(np.ones((1, 2, 8)), ["two latents"])
        index.compact(engine=engine)
        folder = only_generation(path)
        names = (engine_of(engine_options(engine)).file, "names.bin", "owners.u32")
        assert index.warm() == sum((folder / name).stat().st_size for name in names)


def test_cells_grow_with_the_index(tmp_path):
    with IndexBuilder(tmp_path / "index", CARD, BuildOptions(FaissOptions())) as builder:
        builder.add(clustered(100), [f"key-{i}" for i in range(100)])
    with LatentIndex.open(tmp_path / "index") as index:
        index.add(clustered(900, seed=8), [f"more-{i}" for i in range(900)])
        index.compact()
        assert len(index.search(clustered(1)[0], 1000)[0]) == 1000
        assert Oracle.read(index).difference(index) is None
    # From 12 cells to 4 sqrt(1000).
    assert np.fromfile(only_generation(tmp_path / "index") / "cells.bin", "<i8", 125).sum() == 1000


def test_options_are_held_to_their_engine():
    assert engine_options("annoy", trees=5) == AnnoyOptions(5)
    assert engine_options("faiss", cells=5) == FaissOptions(5)
    assert engine_options("faiss-8bit", cells=5) == FaissCodesOptions(5)
    for engine, options in (("annoy", {"cells": 5}), ("faiss", {"trees": 5}), ("faiss-8bit", {"trees": 5})):
        with pytest.raises(ConfigurationError, match="Trees are for annoy"):
            engine_options(engine, **options)
    with pytest.raises(ValueError, match="n_cells"):
        FaissOptions(-1)


def in_child(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("engine", "told"), [("faiss", "ae-search[faiss]"), ("annoy", "pip install annoy")])
def test_an_engine_that_is_not_installed_says_what_to_install(large, engine, told):
    """The other one works meanwhile, and so does all that needs none."""
    made, _ = large
    other = {"faiss": "annoy", "annoy": "faiss"}[engine]
    code = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "import ae_search.cli, ae_search.open_index, ae_search.search, ae_search.diagnosis, ae_search.testing\n"
        "from ae_search.errors import ConfigurationError\n"
        "from ae_search.index import LatentIndex\n"
        "with LatentIndex.open(sys.argv[3]) as index: print(len(index.search([1.0] * 8)[0]))\n"
        "try: LatentIndex.open(sys.argv[2])\n"
        "except ConfigurationError as error: print(error)\n"
    )
    ended = in_child(code, engine, made[engine], made[other])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("10\n")
    assert told in ended.stdout


def test_a_process_forks_after_it_built_and_searched(tmp_path):
    """A child has none of the threads that its parent's OpenMP counts on."""
    code = """
import os, sys, numpy as np
from ae_search.contract import ModelCard, Resources
from ae_search.index import BuildOptions, FaissOptions, IndexBuilder, LatentIndex

rows = np.random.default_rng(0).normal(size=(3_000, 8)).astype(np.float32)
card = ModelCard("tiny", 1, "ab" * 32, image_shape=None, latent_dim=8)

def use(path):
    with IndexBuilder(path, card, BuildOptions(FaissOptions(), resources=Resources(2))) as builder:
        builder.add(rows, [str(at) for at in range(len(rows))])
    with LatentIndex.open(path) as index:
        return index.search(rows[:200], 1)[7][0].key, index.search(rows[8], 1)[0][0].key

assert use(sys.argv[1] + "/parent") == ("7", "8")
child = os.fork()
if not child:
    os._exit(0 if use(sys.argv[1] + "/child") == ("7", "8") else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("done")
"""
    ended = in_child(code, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_a_search_leaves_the_callers_threads_as_they_were(large):
    import faiss

    made, rows = large
    before = faiss.omp_get_max_threads()
    with LatentIndex.open(made["faiss"]) as index:
        index.search(rows[:40])
        running = threading.active_count()
        index.search(rows[:400])
        assert (faiss.omp_get_max_threads(), threading.active_count()) == (before, running)
