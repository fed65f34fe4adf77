"""Fields that filters look up: found, kept, refused and checked; `tests/index_contract` asks what they meet."""

import json
import sqlite3
from contextlib import closing

import pytest
from index_fixtures import *  # noqa: F403
from index_fixtures import CARD, clustered, only_generation, sign

from ae_search.contract import parse_where
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index import AnnoyOptions, BuildOptions, IndexBuilder, LatentIndex
from ae_search.index.items.fields import look_up
from ae_search.index.manifest import MANIFEST
from ae_search.open_index import verify_index

COUNT = 300


@pytest.fixture
def priced(tmp_path):
    path = tmp_path / "index"
    with IndexBuilder(path, CARD, BuildOptions(AnnoyOptions(2), fields=("price", "it's"))) as builder:
        builder.add(
            clustered(COUNT),
            [f"key-{at}" for at in range(COUNT)],
            [f"label-{at % 5}" for at in range(COUNT)],
            metadata=[{"price": at % 50, "it's": [at, str(at), True, None][at % 4]} for at in range(COUNT)],
        )
    return path


def catalogue(path):
    return closing(sqlite3.connect(only_generation(path) / "catalogue.sqlite"))


@pytest.mark.parametrize(
    "where",
    [
        {"price": 5},
        {"price": {"lt": 5}},
        {"price": None},
        {"price": {"in": [1, 2, "x", None, True]}},
        {"it's": True},
        {"it's": {"gte": "2"}},
    ],
    ids=str,
)
def test_the_table_is_searched_and_not_read(priced, where):
    (condition,) = parse_where(where)
    sql, values = look_up(condition, ("price", "it's").index(condition.field))
    with catalogue(priced) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT id FROM fields WHERE {sql}", values).fetchall()
    told = [detail for *_, detail in plan]
    assert any(detail.startswith("SEARCH fields USING PRIMARY KEY (field=?") for detail in told), told
    assert not any(detail.startswith("SCAN fields") for detail in told), told


def test_labels_are_searched_and_not_read(priced):
    with catalogue(priced) as connection:
        sql = "EXPLAIN QUERY PLAN SELECT id FROM items WHERE (typeof(label) IN ('text') AND label = 'x')"
        (*_, detail) = connection.execute(sql).fetchone()
    assert "items_label" in detail


def test_fields_stay_through_changes_and_can_be_chosen_anew(priced):
    with LatentIndex.open(priced) as index:
        assert index.info().fields == ("price", "it's")
        index.add(clustered(2, seed=3), ["a", "b"], metadata=[{"price": 7}, {"shop": "x"}])
        index.compact()
        assert index.info().fields == ("price", "it's")
        before = index.keys(where={"price": 7})
        assert "a" in before
        index.compact(fields=["shop"])
        assert index.info().fields == ("shop",)
        assert (index.keys(where={"price": 7}), index.keys(where={"shop": "x"})) == (before, ["b"])
        generation = index.info().generation
        index.compact(fields=["shop"])
        assert index.info().generation == generation
        index.compact(fields=[])
        assert index.info().fields == ()
        assert index.keys(where={"shop": "x"}) == ["b"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("label",), "'label' in any index"),
        (("key",), "'key' in any index"),
        (("",), "named without"),
        (('a"b',), "named without"),
        (("a\\b",), "named without"),
        (tuple(f"f{at}" for at in range(17)), "at most 16 fields"),
    ],
    ids=["label", "key", "empty", "quote", "backslash", "many"],
)
def test_names_that_no_filter_could_have_are_refused(tmp_path, priced, fields, text):
    with pytest.raises(ConfigurationError, match=text):
        IndexBuilder(tmp_path / "other", CARD, BuildOptions(fields=fields))
    with LatentIndex.open(priced) as index, pytest.raises(ConfigurationError, match=text):
        index.compact(fields=fields)


@pytest.mark.parametrize(
    "fields", ["price", [1], ["price"], ["price", "it's", "price"], ["it's", "label"], None], ids=repr
)
def test_a_manifest_with_other_fields_is_refused_or_answers(priced, fields):
    sign(only_generation(priced), fields=fields)
    if fields == ["price"]:  # the table has rows of a second field, which nobody asks for
        with LatentIndex.open(priced) as index:
            assert len(index.keys(where={"price": 5})) == COUNT // 50
    else:
        with pytest.raises(IndexDamagedError, match="manifest"):
            LatentIndex.open(priced)


def test_a_manifest_from_before_there_were_fields_is_read(ready):
    path = ready()
    generation = only_generation(path)
    raw = json.loads((generation / MANIFEST).read_text())
    assert raw["fields"] == []
    from ae_search.index.manifest import _with_digest

    del raw["fields"], raw["sha256"]
    (generation / MANIFEST).write_text(_with_digest(raw))
    with LatentIndex.open(path) as index:
        assert index.info().fields == ()
        assert len(index.keys(where={"label": "label-1"})) == 120


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("UPDATE fields SET id = 100000 WHERE id = 5 AND field = 0", True),
        ("UPDATE fields SET id = -1 WHERE id = 5 AND field = 0", True),
        ("UPDATE fields SET id = 'x' WHERE id = 5 AND field = 0", True),
        ("UPDATE fields SET id = 1e300 WHERE id = 5 AND field = 0", True),
        ("INSERT INTO fields VALUES (0, 'number', 5.5, 5)", False),
        ("DELETE FROM fields WHERE id = 5", False),
    ],
)
def test_a_table_that_no_writer_wrote(priced, statement, refused):
    """It may make a filter lie, as metadata may; it must not lead a search astray."""
    with catalogue(priced) as connection, connection:
        connection.execute(statement)
    sign(only_generation(priced))
    with LatentIndex.open(priced) as index:
        if refused:
            with pytest.raises(IndexDamagedError, match=r"catalogue\.sqlite"):
                index.search(clustered(1)[0], where={"price": {"lt": 50}}, exact=True)
        else:
            assert index.search(clustered(1)[0], where={"price": {"lt": 50}}, exact=True)[0]
    assert any(check.fault and "catalogue" in check.fault for check in verify_index(priced))


def test_what_is_not_looked_up_is_asked_of_few(priced):
    """A condition on another field beside one that leaves few items, and beside one that leaves most."""
    with LatentIndex.open(priced) as index:
        for other in ({"n": None}, {"label": {"gte": "label-3"}}):
            few = index.keys(where={"price": 5, **other})
            many = index.keys(where={"price": {"gte": 1}, **other})
            numbers = [int(key.removeprefix("key-")) for key in many]
            assert [key for key in many if int(key.removeprefix("key-")) % 50 == 5] == few
            assert numbers == sorted(numbers)
