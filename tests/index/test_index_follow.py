"""Open readers follow what any process makes of the index."""

import pkgutil
import shutil
from dataclasses import replace

import numpy as np
import pytest
from build_options import build_options
from index_child import ask, child, killed_writer
from index_fixtures import *  # noqa: F403
from index_fixtures import CARD, build_at, clustered
from index_oracle import Oracle

from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.index.items.changes import CHANGES
from ae_search.index.items.changes_writer import ChangesWriter
from ae_search.index.manifest import live_generation

NEW = clustered(20, seed=53)
OTHER = replace(CARD, fingerprint="cd" * 32, version=2)


@pytest.fixture
def opened(small):
    path, oracle = small
    with LatentIndex.open(path) as reader:
        yield path, reader, oracle


def rebuilt(path, metric, card=CARD, rows=NEW):
    """Put another index in its place, and return what it must hold."""
    block = {"latents": rows, "keys": [f"other-{i}" for i in range(len(rows))], "labels": ["x"] * len(rows)}
    with IndexBuilder(path, replace(card, metric=metric), build_options(n_trees=2, replace=True)) as builder:
        builder.add(**block)
    oracle = Oracle(metric, card.fingerprint)
    oracle.add(**block)
    return oracle


def test_a_replaced_index_of_the_same_model(opened, metric):
    path, reader, _ = opened
    for count in (20, 3, 11):
        rebuilt(path, metric, rows=NEW[:count]).check(reader)


def test_a_reader_follows_another_metric_and_another_size(tmp_path):
    """The same fingerprint means the same latents, but a reader takes nothing for granted."""
    path = build_at(tmp_path / "index", NEW, n_trees=2)
    with LatentIndex.open(path) as reader:
        rebuilt(path, "euclidean").check(reader)
        rows = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
        rebuilt(path, "angular", replace(CARD, latent_dim=5), rows).check(reader)
        with pytest.raises(ValueError, match=r"\[n, 5\]"):
            reader.search(NEW[0])


def test_compact_in_another_place(opened):
    path, reader, oracle = opened
    with LatentIndex.open(path) as writer:
        for round_ in range(3):
            more = {"latents": NEW[round_ : round_ + 1], "keys": [f"new-{round_}"]}
            writer.add(**more)
            oracle.add(**more)
            writer.compact()
            assert reader._snapshot().generation.folder.name == f"generation-{round_ + 2:06d}"
            oracle.check(reader)


@pytest.mark.parametrize("recall", [0.0, -1.0, 1.01, float("nan")])
def test_tune_refuses_a_recall_out_of_range(opened, recall):
    path, reader, _ = opened
    before = (live_generation(path) / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="recall in"):
        reader.tune(recall)
    assert (live_generation(path) / "manifest.json").read_bytes() == before


def test_a_reader_in_another_process_follows(opened, metric):
    path, reader, _ = opened
    with child("read", path) as other:
        oracle = rebuilt(path, metric)
        assert ask(other, NEW[4]) == {"keys": list(oracle.items), "nearest": oracle.ranked(NEW[4])[:3]}


STEPS = [
    "manifest._read_bounded",
    "manifest.Manifest.read",
    "store.generation.check_files",
    "store.proof._identity",
    "store.generation.Names",
    "store.generation.Catalogue",
    "store.generation.Changes",
    "engine.annoy.AnnoyEngine.open",
    "engine.annoy.Nodes",
]


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_generation_replaced_while_it_is_opened(small, monkeypatch, step, is_open):
    path, oracle = small
    inside, _, name = step.rpartition(".")
    owner = pkgutil.resolve_name(f"ae_search.index.{inside}")
    original, calls, expected = getattr(owner, name), [], []

    def meanwhile(*arguments, **options):
        calls.append(name)
        # CURRENT is replaced after it was read, all else before.
        early = original(*arguments, **options) if name == "_read_bounded" else None
        if len(calls) == 1:
            expected.append(rebuilt(path, oracle.metric))
        return early or original(*arguments, **options)

    with LatentIndex.open(path) as reader:
        if is_open:
            rebuilt(path, oracle.metric, rows=NEW[:3])
        monkeypatch.setattr(owner, name, meanwhile)
        index = reader if is_open else LatentIndex.open(path)
        assert index.keys() == list(expected[0].items)
        expected[0].check(index)


def commit_without_a_word(path, key):
    """Change the index as a writer that is killed before it tells readers."""
    writer = ChangesWriter(live_generation(path) / CHANGES)
    writer.remove([int(key.removeprefix("key-"))])
    writer.commit()
    writer.close()


def test_an_odd_counter_makes_readers_look_every_time(ready, latents):
    path = ready()
    with LatentIndex.open(path) as reader:
        counter = int.from_bytes((path / ".epoch").read_bytes(), "little")
        with (path / ".epoch").open("r+b") as file:
            file.write((counter + 1).to_bytes(8, "little"))
        for key in ("key-1", "key-2", "key-3"):
            assert key in reader
            commit_without_a_word(path, key)
            assert key not in reader
        # The next writer makes it even again.
        reader.remove(["key-4"])
        assert int.from_bytes((path / ".epoch").read_bytes(), "little") == counter + 2
        assert len(reader) == 596


def test_an_even_counter_vouches(ready):
    """Else the test above could not fail."""
    path = ready()
    with LatentIndex.open(path) as reader:
        commit_without_a_word(path, "key-1")
        assert "key-1" in reader
        killed_writer(path, "committed")
        assert "key-1" not in reader


@pytest.mark.parametrize("content", [None, b"", b"\0" * 4, b"\2" * 9, b"\0" * 5000])
def test_without_a_usable_counter_readers_look_every_time(ready, latents, content):
    path = ready()
    (path / ".epoch").unlink()
    if content is not None:
        (path / ".epoch").write_bytes(content)
    with LatentIndex.open(path) as early, LatentIndex.open(path) as writer:
        assert early.search(latents[1], 1)[0][0].key == "key-1"
        commit_without_a_word(path, "key-1")
        assert early.search(latents[1], 1)[0][0].key != "key-1"
        # A writer makes the counter anew.
        writer.add(latents[1:2], ["again"])
        assert (path / ".epoch").stat().st_size == 8
        with LatentIndex.open(path) as late:
            for round_, key in enumerate(("again", "key-5", "key-6")):
                writer.remove([key])
                assert [len(index) for index in (early, late, writer)] == [599 - round_] * 3


@pytest.mark.parametrize("how", ["counter removed", "index removed and made anew"])
def test_a_counter_that_was_replaced_below_a_reader(ready, monkeypatch, how):
    """It looks for that after half a second only."""
    path = ready()
    monkeypatch.setattr("ae_search.index.store.following._LOOK_AGAIN_S", 0.0)
    with LatentIndex.open(path) as reader:
        assert len(reader) == 600
        if how == "counter removed":
            (path / ".epoch").unlink()
            with LatentIndex.open(path) as writer:
                writer.remove(["key-1"])
            assert len(reader) == 599
        else:
            shutil.rmtree(path)
            build_at(path, NEW, n_trees=2)
            assert len(reader) == len(NEW)


def test_a_writer_looks_again_whatever_the_counter_says(ready):
    path = ready()
    with LatentIndex.open(path) as late:
        (path / ".epoch").unlink()
        with LatentIndex.open(path) as writer:
            writer.remove(["key-1"])
        with pytest.raises(ConfigurationError, match="no item 'key-1'"):
            late.remove(["key-1"])


def test_damage_that_comes_with_a_new_generation_is_told_until_it_is_gone(opened, metric):
    path, reader, _ = opened
    oracle = rebuilt(path, metric)
    names = live_generation(path) / "names.bin"
    content = names.read_bytes()
    names.write_bytes(content[:-1])
    for _ in range(2):
        with pytest.raises(IndexDamagedError, match="names.bin"):
            reader.search(NEW[0])
    names.write_bytes(content)
    oracle.check(reader)
