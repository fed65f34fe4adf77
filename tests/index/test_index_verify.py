"""What `verify` finds beyond what opening finds."""

import sqlite3

import numpy as np
import pytest
from index_fixtures import *  # noqa: F403
from index_fixtures import sign

from ae_search.errors import ConfigurationError
from ae_search.index import LatentIndex
from ae_search.index.engine.annoy_nodes import Nodes
from ae_search.index.upkeep.verify import verify


def faults(path):
    return [check.fault for check in verify(path) if check.fault is not None]


@pytest.fixture
def path(build, latents):
    path = build()
    with LatentIndex.open(path) as index:
        index.add(latents[:5] + 9, list("abcde"))
        index.remove(["a", "key-4"])
    return path


@pytest.fixture
def generation(path):
    return path / "generation-000001"


def test_a_good_index_has_no_fault(path):
    checks = verify(path)
    assert len(checks) == 6
    assert [check.fault for check in checks] == [None] * 6


def test_a_proof_is_not_taken_on_trust(path, generation, monkeypatch):
    """A flipped bit behind the file system's back: the clock of the file has not moved."""
    monkeypatch.setattr("ae_search.index.store.proof._identity", lambda folder, name, manifest: [1, 2, 3, 4])
    monkeypatch.setattr("ae_search.index.store.proof._SETTLED_S", -1e18)
    LatentIndex.open(path).close()
    content = bytearray((generation / "forest.ann").read_bytes())
    content[20] ^= 1
    (generation / "forest.ann").write_bytes(content)
    LatentIndex.open(path).close()
    assert any("forest.ann" in fault for fault in faults(path))


def change(generation, statement, name="catalogue.sqlite"):
    connection = sqlite3.connect(generation / name)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_catalogue_that_says_other_than_the_names(path, generation):
    change(generation, "UPDATE items SET label = 'other' WHERE id = 7")
    sign(generation)
    assert any("key-7" in fault and "'other'" in fault for fault in faults(path))


def test_a_catalogue_of_fewer_items(path, generation):
    change(generation, "DELETE FROM items WHERE id = 5")
    sign(generation)
    assert any("600 items. Received: 599" in fault for fault in faults(path))


def test_a_key_that_is_there_twice(path, generation):
    latent = np.zeros(8, "<f4").tobytes().hex()
    change(generation, f"INSERT INTO added (key, latents) VALUES ('key-9', x'{latent}')", "changes.sqlite")
    assert any("'key-9'" in fault for fault in faults(path))


def test_a_forest_that_does_not_find_its_items(path, generation, latents):
    forest = np.memmap(generation / "forest.ann", Nodes(generation / "forest.ann", 8, "angular")._nodes.dtype, "r+")
    forest["vector"][:600] = latents[::-1]
    forest.flush()
    sign(generation)
    assert any("the engine does not return it" in fault for fault in faults(path))


def test_a_file_that_is_missing_ends_the_checks(path, generation):
    (generation / "names.bin").unlink()
    (check,) = verify(path)
    assert "names.bin" in check.fault


def test_what_is_no_index(tmp_path):
    with pytest.raises(ConfigurationError, match="is no index"):
        verify(tmp_path)


def test_figures(path, generation):
    with LatentIndex.open(path) as index:
        figures = index.info()
    assert (figures.items, figures.in_base, figures.added, figures.removed) == (603, 600, 4, 1)
    assert figures.bytes == sum(file.stat().st_size for file in generation.iterdir())
    assert (figures.generation, figures.latent_dim, figures.compact_because) == ("generation-000001", 8, None)


@pytest.mark.parametrize(
    ("added", "removed", "told"),
    [(60, 0, None), (99, 59, None), (100, 0, "100 items were added"), (0, 100, "100 of the 600 items")],
)
def test_when_compacting_is_worth_it(build, latents, added, removed, told):
    path = build()
    with LatentIndex.open(path) as index:
        index.add(latents[:added] + 1, [f"new-{at}" for at in range(added)])
        index.remove([f"key-{at}" for at in range(removed)])
        because = index.info().compact_because
    assert because is None if told is None else told in because
