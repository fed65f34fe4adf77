import json
import shutil
import sqlite3

import pytest
from index_fixtures import *  # noqa: F403

from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index import LatentIndex, Manifest


@pytest.fixture
def path(build):
    return build()


@pytest.fixture
def generation(path):
    return path / "generation-000001"


def refuses(path, match):
    with pytest.raises(IndexDamagedError, match=match):
        LatentIndex.open(path)


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 0x10
    file.write_bytes(content)


@pytest.mark.parametrize("cut", [1, 44, 44 * 50])
def test_forest_cut_short(path, generation, cut):
    forest = generation / "forest.ann"
    forest.write_bytes(forest.read_bytes()[:-cut])
    refuses(path, "forest.ann.*bytes")


def test_forest_cut_short_under_a_manifest_that_agrees(path, generation):
    """Size and digest match, so only the number of items that Annoy finds can tell."""
    import hashlib

    forest = generation / "forest.ann"
    content = forest.read_bytes()[: -44 * 50]
    forest.write_bytes(content)
    manifest = json.loads((generation / "manifest.json").read_text())
    manifest["forest"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (generation / "manifest.json").write_text(json.dumps(manifest))
    refuses(path, "forest.ann.*expected 600 items")


@pytest.mark.parametrize("position", [0, 20, -1, -3000])
def test_forest_with_a_flipped_bit(path, generation, position):
    flip(generation / "forest.ann", position)
    refuses(path, "forest.ann.*sha256")


def test_forest_of_another_index(path, generation, build, latents):
    other = build("other", rows=latents[::-1])
    shutil.copy(other / "generation-000001/forest.ann", generation / "forest.ann")
    refuses(path, "forest.ann")


def test_manifest_of_another_dimension(path, generation):
    """Annoy would map the file with nodes of the wrong size."""
    manifest = json.loads((generation / "manifest.json").read_text())
    (generation / "manifest.json").write_text(json.dumps(manifest | {"latent_dim": 9}))
    refuses(path, "forest.ann.*nodes of 48 bytes")


@pytest.mark.parametrize("name", ["forest.ann", "manifest.json", "catalogue.sqlite"])
@pytest.mark.parametrize("damage", ["missing", "empty", "folder", "garbage"])
def test_every_file_is_needed(path, generation, name, damage):
    (generation / name).unlink()
    if damage == "folder":
        (generation / name).mkdir()
    elif damage != "missing":
        (generation / name).write_bytes(b"" if damage == "empty" else b"\x93garbage" * 1000)
    refuses(path, name)


def test_manifest_cut_short_anywhere(generation):
    text = (generation / "manifest.json").read_text().rstrip()
    for length in range(0, len(text), 17):
        (generation / "manifest.json").write_text(text[:length])
        with pytest.raises(IndexDamagedError, match="manifest.json"):
            Manifest.read(generation)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "tiny"),
        ("model", {"name": "tiny", "version": "1", "fingerprint": "ab"}),
        ("model", {"name": "", "version": 1, "fingerprint": "ab"}),
        ("image_shape", [28, 28]),
        ("image_shape", [28, 28, 2]),
        ("image_shape", [28.0, 28, 1]),
        ("latent_dim", 0),
        ("latent_dim", "8"),
        ("latent_dim", True),
        ("latent_dim", 2**40),
        ("metric", "dot"),
        ("metric", ["angular"]),
        ("n_trees", -1),
        ("seed", 1.5),
        ("search_k", 0),
        ("search_k", None),
        ("recall", 1.5),
        ("recall", float("nan")),
        pytest.param("recall", 10**400, id="recall-huge"),
        ("recall_curve", {}),
        ("recall_curve", [1]),
        ("recall_curve", [{"search_k": 1, "recall": 1.0}]),
        ("items", 0),
        ("created", "yesterday"),
        ("forest", {"size": 1}),
        ("forest", {"size": 1, "sha256": "../x"}),
        ("format", 0),
        ("format", "1"),
    ],
)
def test_manifest_with_a_wrong_value(path, generation, name, value):
    file = generation / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    refuses(path, "manifest.json")


@pytest.mark.parametrize("content", [b"[]", b"null", b"[" * 200_000, b"\xff\xfe\x00", b" " * (2 << 20)])
def test_manifest_that_is_something_else(path, generation, content):
    (generation / "manifest.json").write_bytes(content)
    refuses(path, "manifest.json")


def test_manifest_round_trip(generation, tmp_path):
    manifest = Manifest.read(generation)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_manifest_of_a_newer_format(path, generation):
    file = generation / "manifest.json"
    file.write_text(json.dumps({"format": 2, "all": "different"}))
    with pytest.raises(ConfigurationError, match="format 2.*upgrade"):
        LatentIndex.open(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_catalogue_cut_short(path, generation, share):
    file = generation / "catalogue.sqlite"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refuses(path, "catalogue.sqlite")


def change(generation, *statements):
    connection = sqlite3.connect(generation / "catalogue.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM items WHERE id = 599",
        "DELETE FROM items WHERE id = 5",
        "UPDATE items SET id = 1000 WHERE id = 5",
        "PRAGMA user_version = 0",
        "DROP TABLE items",
    ],
)
def test_catalogue_that_does_not_fit(path, generation, statement):
    change(generation, statement)
    refuses(path, "catalogue.sqlite")


def test_catalogue_of_a_newer_format(path, generation):
    change(generation, "PRAGMA user_version = 2")
    with pytest.raises(ConfigurationError, match="catalogue.sqlite has format 2.*upgrade"):
        LatentIndex.open(path)


def test_damage_that_only_a_query_meets(path, generation, latents):
    change(
        generation,
        "UPDATE items SET key = CAST(x'ff' AS TEXT) WHERE id = 7",
        "DROP TABLE thumbnails",
    )
    with LatentIndex.open(path) as index:
        with pytest.raises(IndexDamagedError, match="catalogue.sqlite"):
            index.search(latents[7], 1)
        with pytest.raises(IndexDamagedError, match="catalogue.sqlite"):
            index.thumbnail("key-3")


def test_reading_leaves_the_catalogue_alone(path, generation, latents):
    before = {file.name: file.read_bytes() for file in generation.iterdir()}
    with LatentIndex.open(path) as index:
        index.search(latents, 3)
    assert {file.name: file.read_bytes() for file in generation.iterdir()} == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"../../etc\n",
        b"/etc",
        b"generation-1",
        b"generation-000001/../generation-000001",
        "generation-٠٠٠٠٠١".encode(),
        b"generation-000001\x00",
        b"generation-000001\n" * 100,
    ],
)
def test_current_that_names_no_generation(path, content):
    (path / "CURRENT").write_bytes(content)
    refuses(path, "CURRENT")


def test_current_that_names_a_missing_generation(path):
    (path / "CURRENT").write_text("generation-000009\n")
    refuses(path, "generation-000009 is missing")


def test_what_is_no_index(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(ConfigurationError, match="is no index.*ae-search index build"):
            LatentIndex.open(place)


def test_a_generation_replaced_while_it_is_opened(path, build, latents, monkeypatch):
    read, calls = Manifest.read.__func__, []

    def replaced_meanwhile(cls, folder):
        calls.append(folder.name)
        if len(calls) == 1:
            monkeypatch.setattr(Manifest, "read", classmethod(read))
            build(rows=latents[:9], replace=True)
        return read(cls, folder)

    monkeypatch.setattr(Manifest, "read", classmethod(replaced_meanwhile))
    with LatentIndex.open(path) as index:
        assert len(index) == 9
