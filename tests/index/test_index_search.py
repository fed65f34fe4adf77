"""What only the local index promises of a search; the rest is in tests/index_contract."""

import gc
from dataclasses import replace

import numpy as np
import pytest
from build_options import build_options
from index_fixtures import *  # noqa: F403
from index_oracle import Oracle

from ae_search.index import IndexBuilder, LatentIndex
from ae_search.index.search import snapshot_search


def test_exact_search_over_many_blocks(ready, latents, monkeypatch, metric):
    monkeypatch.setattr("ae_search.nearest.exact._ITEMS_PER_BLOCK", 37)
    monkeypatch.setattr("ae_search.nearest.exact._QUERIES_PER_BLOCK", 7)
    oracle = Oracle(metric)
    oracle.add(latents, [f"key-{i}" for i in range(600)])
    queries = latents[:30] + np.float32(0.1)
    with LatentIndex.open(ready(metric)) as index:
        found = index.search(queries, 50, exact=True)
    assert [[n.key for n in row] for row in found] == [oracle.ranked(query)[:50] for query in queries]


def test_the_tuned_effort_is_a_part_of_all_and_finds_more_than_the_least(build, card, metric):
    rng = np.random.default_rng(3)
    rows, queries = (rng.normal(size=(count, 8)).astype(np.float32) for count in (3000, 100))
    with LatentIndex.open(build(rows=rows, model=replace(card, metric=metric), n_trees=10)) as index:
        assert index.info().effort < 3000
        truth, tuned, least = (
            [{n.id for n in row} for row in index.search(queries, 10, **options)]
            for options in ({"exact": True}, {}, {"effort": 1})
        )

    def recall(found):
        return np.mean([len(some & all_) / 10 for some, all_ in zip(found, truth, strict=True)])

    assert recall(least) < recall(tuned)
    assert recall(tuned) >= 0.95


@pytest.mark.parametrize("exact", [False, True])
def test_ids_are_the_numbers_of_the_rows(ready, latents, exact):
    with LatentIndex.open(ready()) as index:
        answers = index.search(latents[:4], 600, exact=exact)
    assert all(n.key == f"key-{n.id}" and n.label == f"label-{n.id % 5}" for row in answers for n in row)
    assert all({n.id for n in row} == set(range(600)) for row in answers)


def test_a_folder_of_any_name(tmp_path, card, latents):
    with IndexBuilder(tmp_path / "ü ?#%", card, build_options(n_trees=2)) as builder:
        builder.add(latents[:4], list("abcd"))
    with LatentIndex.open(str(tmp_path / "ü ?#%")) as index:
        assert index.path == tmp_path / "ü ?#%"
        assert index.search(latents[2], 1)[0][0].key == "c"


@pytest.mark.parametrize("collects", [True, False])
def test_many_queries_leave_the_collector_as_it_was(ready, latents, collects, monkeypatch):
    """It would look through the growing answers again and again."""
    seen, fails = [], []

    def compared(*given):
        seen.append(gc.isenabled())
        if fails:
            raise MemoryError
        return compare_many(*given)

    compare_many = snapshot_search.compare_many
    monkeypatch.setattr(snapshot_search, "compare_many", compared)
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with LatentIndex.open(ready()) as index:
            assert len(index.search(latents[:200], 3)) == 200
            assert gc.isenabled() is collects
            fails.append(True)
            with pytest.raises(MemoryError):
                index.search(latents[:200], 3)
            assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()
    assert seen and not any(seen)
