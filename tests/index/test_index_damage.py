import shutil
import sqlite3

import pytest
from index_fixtures import *  # noqa: F403
from index_fixtures import sign

from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index import LatentIndex


@pytest.fixture
def path(ready):
    return ready()


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


FILES = ["forest.ann", "manifest.json", "catalogue.sqlite", "names.bin", "changes.sqlite"]


@pytest.mark.parametrize("cut", [1, 44, 44 * 50])
def test_forest_cut_short(path, generation, cut):
    forest = generation / "forest.ann"
    forest.write_bytes(forest.read_bytes()[:-cut])
    refuses(path, "forest.ann.*bytes")


def test_forest_cut_short_under_a_manifest_that_agrees(path, generation):
    """Size and digest match, so only the nodes can tell."""
    forest = generation / "forest.ann"
    forest.write_bytes(forest.read_bytes()[: -44 * 50])
    sign(generation)
    refuses(path, "forest.ann.*4 trees that lead to each item once.*3 roots")


@pytest.mark.parametrize("position", [0, 20, -1, -3000])
def test_forest_with_a_flipped_bit(path, generation, position):
    flip(generation / "forest.ann", position)
    refuses(path, "forest.ann.*sha256")


@pytest.mark.parametrize("name", ["forest.ann", "catalogue.sqlite", "names.bin", "manifest.json"])
def test_a_file_of_another_index(path, generation, build, latents, name):
    other = build("other", rows=latents[::-1][:590])
    shutil.copy(other / "generation-000001" / name, generation / name)
    refuses(path, "forest.ann" if name == "manifest.json" else name)


def test_a_forest_of_another_index_of_the_same_size(path, generation, build, latents):
    other = build("other", rows=latents[::-1])
    shutil.copy(other / "generation-000001/forest.ann", generation / "forest.ann")
    refuses(path, "forest.ann")


def test_manifest_of_another_dimension(path, generation):
    """Annoy would map the file with nodes of the wrong size."""
    sign(generation, latent_dim=9)
    refuses(path, "forest.ann.*nodes of 48 bytes")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "folder", "garbage"])
def test_every_file_is_needed(path, generation, name, damage):
    (generation / name).unlink()
    if damage == "folder":
        (generation / name).mkdir()
    elif damage != "missing":
        (generation / name).write_bytes(b"" if damage == "empty" else b"\x93garbage" * 1000)
    refuses(path, name)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_catalogue_cut_short(path, generation, share):
    file = generation / "catalogue.sqlite"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refuses(path, "catalogue.sqlite")


def change(generation, *statements, name="catalogue.sqlite"):
    connection = sqlite3.connect(generation / name)
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
        "PRAGMA user_version = 5",
        "CREATE INDEX more ON items (metadata)",
        "DROP TABLE items",
    ],
)
def test_catalogue_that_does_not_fit(path, generation, statement):
    change(generation, statement)
    refuses(path, "catalogue.sqlite")


def test_changes_of_a_newer_format(path, generation):
    change(generation, "PRAGMA user_version = 2", name="changes.sqlite")
    with pytest.raises(ConfigurationError, match="changes.sqlite has format 2.*upgrade"):
        LatentIndex.open(path)


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA user_version = 0",
        "DROP TABLE added",
        "DROP TABLE removed",
        "INSERT INTO removed (id) VALUES (-1)",
        "INSERT INTO removed (id) VALUES ('x')",
        "INSERT INTO added (key, latents) VALUES ('short', x'0000')",
        "INSERT INTO added (key, latents) VALUES ('text', 'x')",
        "INSERT INTO added (key, latents) VALUES (x'ff', zeroblob(32))",
        "INSERT INTO added (key, label, latents) VALUES ('blob', x'ff', zeroblob(32))",
        "INSERT INTO added (key, latents) VALUES (CAST(x'ff' AS TEXT), zeroblob(32))",
        "INSERT INTO added (key, latents) VALUES ('nan', x'" + "0000c07f" * 8 + "')",
    ],
)
def test_changes_that_no_writer_wrote(path, generation, statement):
    change(generation, statement, name="changes.sqlite")
    refuses(path, "changes.sqlite")


def test_damage_that_only_a_query_meets(path, generation, latents):
    """The manifest vouches for it."""
    names = generation / "names.bin"
    names.write_bytes(names.read_bytes().replace(b"key-7\0", b"key\xff7\0"))
    sign(generation)
    with LatentIndex.open(path) as index:
        with pytest.raises(IndexDamagedError, match="names.bin"):
            index.search(latents[7], 1)
        assert index.search(latents[8], 1)[0][0].key == "key-8"


@pytest.mark.parametrize("name", ["catalogue.sqlite", "changes.sqlite"])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW more AS SELECT randomblob(1000000000)",
        "CREATE TRIGGER more AFTER INSERT ON {table} BEGIN SELECT 1; END",
        "CREATE TABLE more (x)",
        "ALTER TABLE {table} ADD COLUMN more DEFAULT 3",
    ],
)
def test_a_database_with_other_tables(path, generation, name, statement):
    """The manifest vouches for it."""
    table = "items" if name == "catalogue.sqlite" else "added"
    change(generation, statement.format(table=table), name=name)
    sign(generation)
    refuses(path, f"{name} has other tables")


def test_names_too_short_for_the_items(path, generation):
    (generation / "names.bin").write_bytes(b"\0" * 4800)
    sign(generation)
    refuses(path, "names.bin does not hold 600 items")


def test_reading_leaves_every_file_alone(path, latents):
    def contents():
        return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}

    before = contents()
    with LatentIndex.open(path) as index:
        index.search(latents, 3)
        index.search(latents[0], 3, where={"label": "label-1"})
        index.thumbnail("key-1")
    assert contents() == before


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
