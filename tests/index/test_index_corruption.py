"""Hundreds of seeded damages: each is refused with the file's name, and Annoy, which checks nothing, never sees one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from build_options import build_options
from index_fixtures import *  # noqa: F403
from index_fixtures import CARD, build_at, clustered
from index_oracle import Oracle

from ae_search.errors import AeSearchError, ConfigurationError, IndexDamagedError
from ae_search.index import IndexBuilder, LatentIndex

IMMUTABLE = ["forest.ann", "manifest.json", "catalogue.sqlite", "names.bin", "owners.u32"]
CHANGES = "changes.sqlite"
QUERIES = clustered(3, seed=101)


def built(path, name, seed, cut=140):
    """Build an index of 150 items in five classes, those from a number on with three latents each."""
    rows, labels = clustered(cut + 3 * (150 - cut), seed=seed), [f"label-{i % 5}" for i in range(150)]
    keys = [f"{name}-{i}" for i in range(150)]
    with IndexBuilder(path, CARD, build_options(n_trees=4)) as builder:
        builder.add(rows[:cut], keys[:cut], labels[:cut])
        builder.add(rows[cut:].reshape(-1, 3, 8), keys[cut:], labels[cut:])
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An index of 150 items, some with several latents, and changes of all kinds to it."""
    path = built(tmp_path_factory.mktemp("corruption") / "index", "key", 102)
    with LatentIndex.open(path) as index:
        rows = clustered(40, seed=103)
        index.add(rows, [f"added-{i}" for i in range(40)], ["new"] * 40, metadata=[{"n": i} for i in range(40)])
        index.remove([*(f"key-{i}" for i in range(0, 60, 3)), "added-3"])
        index.update(["key-1", "added-4"], labels=["changed", "changed"], thumbnails=[b"jpeg", None])
    return path


@pytest.fixture
def path(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "index"))


@pytest.fixture
def no_annoy(monkeypatch):
    """A call of Annoy fails the test."""

    def reached(*_):
        pytest.fail("Annoy was reached")

    monkeypatch.setattr("ae_search.index.engine.annoy.AnnoyIndex", reached)


def answers(path):
    """Return all that an index says, in one value."""
    with LatentIndex.open(path) as index:
        items = list(index.items())
        found = [index.search(QUERIES, 9), index.search(QUERIES, 9, exact=True)]
        found.append(index.search(QUERIES, 9, where={"label": {"in": ["label-1", "new", "changed"]}}))
        pictures = [index.thumbnail(key) for key, _, _ in items]
        return items, np.concatenate(index.all_latents([key for key, _, _ in items])).tobytes(), found, pictures


def where_is(path, name):
    (file,) = [file for file in path.rglob(name)]
    return file


def flip(file, rng, count=1):
    content = bytearray(file.read_bytes())
    for _ in range(count):
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    file.write_bytes(content)


def refused(path, name, *kinds):
    """Hold that an index is refused, twice, by an error that names the file."""
    for _ in range(2):
        with pytest.raises(kinds or (IndexDamagedError, ConfigurationError)) as caught:
            answers(path)
        assert str(where_is(path, name)) in str(caught.value)


@pytest.mark.parametrize("name", IMMUTABLE)
def test_flipped_bits(path, name, no_annoy):
    rng = np.random.default_rng([104, IMMUTABLE.index(name)])
    file = where_is(path, name)
    content = file.read_bytes()
    for round_ in range(50):
        flip(file, rng, count=1 + 4 * (round_ % 2))
        assert file.read_bytes() != content
        refused(path, name)
        file.write_bytes(content)


@pytest.mark.parametrize("name", [*IMMUTABLE, CHANGES])
def test_truncations(path, name, no_annoy):
    rng = np.random.default_rng([105, len(name)])
    file = where_is(path, name)
    content = file.read_bytes()
    # The test below is about the last page of an SQLite file.
    end = len(content) - (4096 if name == CHANGES else 0)
    for length in {0, 1, 100, end - 1, end // 2, *rng.integers(end, size=15).tolist()}:
        file.write_bytes(content[:length])
        refused(path, name, IndexDamagedError)
        file.write_bytes(content)


@pytest.mark.parametrize("cut", [1, 500, 4000])
def test_changes_that_lack_a_part_of_their_last_page(tmp_path, cut):
    """Where it holds the end of a long value, the picture would have a black edge, a long latent zeros."""
    path = build_at(tmp_path / "fresh", clustered(20))
    with LatentIndex.open(path) as index:
        index.add(QUERIES[:1], ["large"], thumbnails=[b"jpeg" * 5000])
    file = where_is(path, CHANGES)
    file.write_bytes(file.read_bytes()[:-cut])
    refused(path, CHANGES, IndexDamagedError)


@pytest.mark.parametrize("name", [*IMMUTABLE, CHANGES])
def test_longer_files_and_zeros(path, name):
    """SQLite does not look behind the pages that its header counts, so there the answers are the same."""
    before = answers(path)
    file = where_is(path, name)
    content = file.read_bytes()
    file.write_bytes(bytes(len(content)))
    refused(path, name)
    file.write_bytes(content + b"\0")
    if name == CHANGES:
        assert answers(path) == before
    else:
        refused(path, name)


def test_every_byte_of_current(path, no_annoy):
    file = path / "CURRENT"
    content = file.read_bytes()
    for at in range(len(content) - 1):
        file.write_bytes(content[:at])
        refused(path, "CURRENT", IndexDamagedError)
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            file.write_bytes(changed)
            refused(path, "CURRENT", IndexDamagedError)


def test_current_without_its_newline_is_as_good(path):
    before = answers(path)
    (path / "CURRENT").write_text("generation-000001")
    assert answers(path) == before


def test_any_counter_gives_the_right_answers(path):
    before = answers(path)
    file, changes = path / ".epoch", where_is(path, CHANGES)
    content, changed = file.read_bytes(), changes.read_bytes()
    rng = np.random.default_rng(106)
    for damaged in [content[:length] for length in range(8)] + [rng.bytes(8) for _ in range(10)] + [rng.bytes(100)]:
        file.write_bytes(damaged)
        changes.write_bytes(changed)
        assert answers(path) == before
        others = [label for key, label, _ in before[0] if key != "key-1"]
        with LatentIndex.open(path) as reader, LatentIndex.open(path) as writer:
            for label in ("one", "two"):
                writer.update(["key-1"], labels=[label])
                assert reader.labels() == writer.labels() == [*others, label]


@pytest.mark.parametrize("name", [*IMMUTABLE, CHANGES, "CURRENT", ".epoch"])
def test_files_swapped_between_two_indexes(path, name, tmp_path):
    other = built(tmp_path / "other", "item", 107, cut=130)
    with LatentIndex.open(other) as index:
        index.add(QUERIES[:1], ["only here"])
    before = [answers(path), answers(other)]
    files = [where_is(path, name), where_is(other, name)]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    if name in ("CURRENT", ".epoch"):
        assert [answers(path), answers(other)] == before
        return
    assert contents[0] != contents[1]
    for place in (path, other):
        refused(place, "forest.ann" if name == "manifest.json" else name, IndexDamagedError)


def test_flipped_bits_in_the_changes(path):
    """The changes have no digest, as they change in place: SQLite's own check finds what does not hang together.

    It cannot notice another letter in a label or in metadata, another bit in a latent or in a picture. So what passes
    may differ from the truth in the values of those items that were added or updated, never in which items there are.
    """
    file = where_is(path, CHANGES)
    content = file.read_bytes()
    before = answers(path)
    with LatentIndex.open(path) as index:
        truth = Oracle.read(index)
    rng = np.random.default_rng(108)
    outcomes = {"refused": 0, "same": 0, "other value": 0}
    for _ in range(150):
        flip(file, rng)
        try:
            after = answers(path)
        except AeSearchError as error:
            assert str(file) in str(error)
            outcomes["refused"] += 1
        except json.JSONDecodeError:
            outcomes["other value"] += 1
        else:
            outcomes["same" if after == before else "other value"] += 1
            if after != before:
                with LatentIndex.open(path) as index:
                    _differs_in_values_only(truth, Oracle.read(index))
        for leftover in file.parent.glob(f"{CHANGES}-*"):
            leftover.unlink()
        file.write_bytes(content)
    assert answers(path) == before
    assert min(outcomes.values()) > 0, outcomes


def _differs_in_values_only(truth, received):
    assert list(received.items) == list(truth.items)
    for key, item in received.items.items():
        if key.startswith("key-") and key != "key-1":
            assert item.latents.tobytes() == truth.items[key].latents.tobytes()
            assert item[1:] == truth.items[key][1:]


def test_changes_whose_schema_is_no_text(path):
    file = where_is(path, CHANGES)
    content = file.read_bytes()
    assert content.count(b"CREATE TABLE added") == 1
    file.write_bytes(content.replace(b"CREATE TABLE added", b"CREATE TABL\xe9 added"))
    refused(path, CHANGES, IndexDamagedError)
