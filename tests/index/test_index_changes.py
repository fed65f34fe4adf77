"""What only the local index promises of changes; the rest is in tests/index_contract."""

import numpy as np
import pytest
from index_fixtures import *  # noqa: F403
from index_fixtures import clustered

from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.index import LatentIndex
from ae_search.index.items.changes import Changes
from ae_search.index.items.delta import Delta
from ae_search.index.upkeep.compacting import compact

NEW = clustered(20, seed=23)


@pytest.mark.parametrize("metric", ["angular"])
def test_ids_are_never_used_again(small):
    path, _ = small
    with LatentIndex.open(path) as index:

        def ids():
            return {n.key: n.id for n in index.search(NEW[0], 1000, exact=True)[0]}

        used = set(ids().values())
        assert used == set(range(60))
        for round_ in range(4):
            index.add(NEW[:5], [f"new-{5 * round_ + i}" for i in range(5)])
            new = {key: number for key, number in ids().items() if key.startswith("new")}
            assert not used & set(new.values())
            used |= set(new.values())
            index.update([f"new-{5 * round_}"], labels=["other"])
            (moved,) = {ids()[f"new-{5 * round_}"]} - used
            used.add(moved)
            # Also the largest one, whose number SQLite alone would give out again.
            index.remove([key for key in ids() if key.startswith("new")])
        assert used == set(range(60 + 4 * 6))


@pytest.mark.parametrize("metric", ["angular"])
def test_what_is_no_index_takes_no_changes(small, tmp_path):
    path, _ = small
    with LatentIndex.open(path) as index:
        (path / "CURRENT").rename(tmp_path / "elsewhere")
        for change in (lambda: index.add(NEW[:1], ["new"]), index.compact, index.tune):
            with pytest.raises(ConfigurationError, match="is no index"):
                change()
        (tmp_path / "elsewhere").rename(path / "CURRENT")
        index.add(np.ones((1, 8)), ["after"])
        assert "after" in index


@pytest.mark.parametrize("metric", ["angular"])
def test_what_is_refused_leaves_the_counter_as_it_was(small):
    path, _ = small
    with LatentIndex.open(path) as index:
        index.remove(["key-1"])
        counter = (path / ".epoch").read_bytes()
        for change, error in (
            (lambda: index.add(NEW[:1], ["key-2"]), AeSearchError),
            (lambda: index.add(np.full((1, 8), np.nan), ["new"]), ValueError),
            (lambda: index.update(["key-1"], labels=["x"]), AeSearchError),
            (lambda: index.remove(["key-2", "key-2"]), AeSearchError),
            (lambda: index.calibrate("no name", {}), ValueError),
        ):
            with pytest.raises(error):
                change()
            assert (path / ".epoch").read_bytes() == counter
        index.remove(["key-2"])
        assert (path / ".epoch").read_bytes() != counter


def test_a_change_while_a_filtered_search_is_under_way(ready, monkeypatch, metric):
    """The item met the filter before and meets it afterwards, so it must not be missing in between."""
    path = ready(metric)
    with LatentIndex.open(path) as index:
        index.add(NEW[:1], ["moving"], ["far"])
        matching = Delta.matching

        def meanwhile(delta, condition):
            with LatentIndex.open(path) as writer:
                writer.update(["moving"], thumbnails=[b"new"])
            return matching(delta, condition)

        monkeypatch.setattr(Delta, "matching", meanwhile)
        assert [n.key for n in index.search(NEW[0], 1, where={"label": "far"})[0]] == ["moving"]


@pytest.mark.parametrize("step", ["thumbnail", "sources", "calibration", "thumbnails"])
def test_a_generation_that_is_removed_while_it_is_read(ready, monkeypatch, step):
    """These are read of its files when somebody asks."""
    path = ready()
    with LatentIndex.open(path) as index:
        index.add(NEW[:1], ["new"], thumbnails=[b"jpeg"], source="photos")
        index.calibrate("null", {"mean": 0.5})
        original, calls = getattr(Changes, step), []

        def meanwhile(changes, *arguments):
            calls.append(step)
            if len(calls) == 1:
                compact(path)
            return original(changes, *arguments)

        monkeypatch.setattr(Changes, step, meanwhile)
        answer = {
            "thumbnail": lambda: index.thumbnail("new"),
            "sources": lambda: index.info().sources,
            "calibration": index.calibration,
            "thumbnails": lambda: [items.thumbnails[-1] for _, items in index.blocks()][-1],
        }[step]()
        expected = {"sources": ("photos",), "calibration": {"null": {"mean": 0.5}}}
        assert answer == expected.get(step, b"jpeg")
        assert calls


def test_many_equal_items_are_searched_for_their_duplicates_a_few_at_a_time(build, monkeypatch):
    monkeypatch.setattr("ae_search.nearest.alike._FOUND_AT_A_TIME", 100)
    rows = np.repeat(np.eye(2, 8, dtype=np.float32), 150, axis=0)
    with LatentIndex.open(build(rows=rows)) as index:
        found = index.duplicates(0.9)
    assert [len(group.keys) for group in found] == [150, 150]
