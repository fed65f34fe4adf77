"""Annoy follows the numbers in its file blindly: one beyond the file kills it, one that leads back never ends."""

from dataclasses import replace

import numpy as np
import pytest
from index_fixtures import *  # noqa: F403
from index_fixtures import CARD, DIM, build_at, only_generation, sign

from ae_search.errors import IndexDamagedError
from ae_search.index import LatentIndex
from ae_search.index.engine.annoy_nodes import Nodes

ITEMS = 600


@pytest.fixture
def generation(ready, metric):
    return only_generation(ready(metric))


@pytest.fixture
def loaded(monkeypatch):
    """Names of the files that Annoy was given, which it opens all the same."""
    from ae_search.index.engine import annoy as forest

    names = []

    class Watched(forest.AnnoyIndex):
        def load(self, path):
            names.append(path)
            return super().load(path)

    monkeypatch.setattr(forest, "AnnoyIndex", Watched)
    return names


class Numbers:
    """The forest as whole numbers `[nodes, words]`, to be changed at will."""

    def __init__(self, generation, metric):
        self._file = generation / "forest.ann"
        self._head = {"angular": 3, "euclidean": 4}[metric]
        self.words = np.fromfile(self._file, "<i4").reshape(-1, self._head + DIM)
        self.child = {"angular": 1, "euclidean": 2}[metric]
        self.capacity = DIM + 2
        self.counts = self.words[:, 0]
        self.leaves = [i for i in range(ITEMS, len(self.words)) if self.counts[i] <= self.capacity]
        self.splits = [i for i in range(ITEMS, len(self.words)) if self.counts[i] > self.capacity]

    def write(self):
        self.words.tofile(self._file)


def refused(generation, loaded):
    sign(generation)
    with pytest.raises(IndexDamagedError, match=r"forest\.ann.*a forest that Annoy wrote.*node \d+"):
        LatentIndex.open(generation.parent)
    assert loaded == []


def test_the_forest_as_it_was_built_passes(generation, metric, loaded):
    numbers = Numbers(generation, metric)
    assert min(len(numbers.leaves), len(numbers.splits)) > 50
    numbers.write()
    sign(generation)
    with LatentIndex.open(generation.parent) as index:
        assert len(index) == ITEMS
    assert loaded == [str(generation / "forest.ann")]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("value", ["beyond", "far beyond", "negative", "most negative", "itself", "its parent"])
def test_a_split_that_leads_astray(generation, metric, loaded, side, where, value):
    numbers = Numbers(generation, metric)
    at = numbers.splits[0 if where == "first" else -1]
    numbers.words[at, numbers.child + side] = {
        "beyond": len(numbers.words),
        "far beyond": 2**31 - 1,
        "negative": -1,
        "most negative": -(2**31),
        "itself": at,
        "its parent": min(at + 1, len(numbers.words) - 1),
    }[value]
    numbers.write()
    refused(generation, loaded)


@pytest.mark.parametrize("value", [ITEMS, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_leaf_that_lists_no_item(generation, metric, loaded, value, place):
    numbers = Numbers(generation, metric)
    at = max(numbers.leaves, key=lambda leaf: numbers.counts[leaf])
    assert numbers.counts[at] > 2
    numbers.words[at, numbers.child + (0 if place == "first" else numbers.counts[at] - 1)] = value
    numbers.write()
    refused(generation, loaded)


@pytest.mark.parametrize("value", [0, 2, -1, 2**31 - 1])
@pytest.mark.parametrize("at", [0, 300, ITEMS - 1])
def test_an_item_of_several_descendants(generation, metric, loaded, at, value):
    numbers = Numbers(generation, metric)
    numbers.counts[at] = value
    numbers.write()
    refused(generation, loaded)


@pytest.mark.parametrize("value", [-1, -(2**31)])
def test_a_node_of_negative_descendants(generation, metric, loaded, value):
    numbers = Numbers(generation, metric)
    numbers.counts[numbers.splits[3]] = value
    numbers.write()
    refused(generation, loaded)


def test_a_split_that_says_it_lists_items(generation, metric, loaded):
    """Its children are nodes, so they cannot be taken for items."""
    numbers = Numbers(generation, metric)
    at = next(i for i in numbers.splits if (numbers.words[i, numbers.child : numbers.child + 2] >= ITEMS).any())
    numbers.counts[at] = 2
    numbers.write()
    refused(generation, loaded)


def test_a_node_that_is_reached_twice(generation, metric, loaded):
    """A walk would come by the last of several such nodes in a row 2, 4, 8, ... times."""
    numbers = Numbers(generation, metric)
    at = numbers.splits[3]
    numbers.words[at, numbers.child + 1] = numbers.words[at, numbers.child]
    numbers.write()
    refused(generation, loaded)


def test_a_list_of_nothing(generation, metric, loaded):
    numbers = Numbers(generation, metric)
    at = next(i for i in range(ITEMS, len(numbers.words)) if i not in set(numbers.splits))
    numbers.counts[at] = 0
    numbers.write()
    refused(generation, loaded)


def test_nothing_but_items(generation, metric, loaded):
    numbers = Numbers(generation, metric)
    numbers.words = numbers.words[:ITEMS]
    numbers.write()
    sign(generation)
    with pytest.raises(IndexDamagedError, match=r"forest\.ann.*more than 600 nodes"):
        LatentIndex.open(generation.parent)
    assert loaded == []


def test_nodes_beyond_one_block_are_checked(generation, metric, loaded, monkeypatch):
    monkeypatch.setattr("ae_search.index.engine.annoy_nodes._BYTES_PER_BLOCK", 64 * 44)
    numbers = Numbers(generation, metric)
    with LatentIndex.open(generation.parent) as index:
        assert len(index) == ITEMS
    loaded.clear()
    numbers.words[numbers.splits[-20], numbers.child] = -5
    numbers.write()
    refused(generation, loaded)


@pytest.mark.parametrize("dim", [1, 2, 3, 40])
@pytest.mark.parametrize("count", [1, 2, 5, 300])
def test_forests_of_every_shape_pass_and_hold_the_latents(tmp_path, metric, dim, count):
    rows = np.random.default_rng(dim).normal(size=(count, dim)).astype(np.float32)
    path = build_at(tmp_path / "index", rows, replace(CARD, latent_dim=dim, metric=metric), jobs=-1)
    nodes = Nodes(only_generation(path) / "forest.ann", dim, metric)
    nodes.check(count, 4)
    np.testing.assert_array_equal(nodes.vectors(count), rows)
