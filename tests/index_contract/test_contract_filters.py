"""Which items meet a filter, and which filters are refused."""

import itertools

import numpy as np
import pytest
from guests import oracle_of
from index_items import clustered
from index_oracle import Item, meets

DROP = "'; DROP TABLE items; --"
ODD_TEXTS = ["", "'", '"', "%", "_", ";", DROP, "a'b\"c%d", "ü", "猫", "🙂", "5", "1", "true", "null"]
NUMBERS = [0, 1, 5, -5, 2.5, 5.0, -0.0, 1e300, 2**53 + 1, -(2**63), 2**63 - 1]
VALUES = [*ODD_TEXTS, *NUMBERS, None, True, False]
FIELDS = ["v", "weird name %;", DROP, "a.b", "[0]", "$", "ü猫"]


def odd_items(rows):
    """Return items whose every field takes every value, or is missing."""
    labels = [value for value in VALUES if value is None or isinstance(value, str)]
    count = len(rows)
    return {
        "latents": rows,
        "keys": [f"{i}{ODD_TEXTS[i % len(ODD_TEXTS)]}" if i >= 40 else f"key-{i}" for i in range(count)],
        "labels": [labels[i % len(labels)] for i in range(count)],
        "metadata": [
            None if i % 13 == 0 else {"v": VALUES[i % len(VALUES)], FIELDS[i % len(FIELDS)]: i % 4, "list": [1], "n": i}
            for i in range(count)
        ],
    }


@pytest.fixture(scope="module", params=[(), ("n", *FIELDS, "list", "absent")], ids=["read", "looked up"])
def odd(request, guest):
    """An index with such items in the base and added ones, some of both removed or updated."""
    if request.param and "fields" in guest.missing:  # before a mark of a test would count
        pytest.skip(f"{guest.name} does without fields")
    place, oracle = guest.place(), oracle_of(guest)
    first, second = odd_items(clustered(150, seed=61)), odd_items(clustered(90, seed=62))
    second["keys"] = [f"more {key}" for key in second["keys"]]
    with guest.build(place, **({"fields": request.param} if request.param else {})) as builder:
        builder.add(**first)
    oracle.add(**first)
    with guest.open(place) as index:
        for change, arguments in (
            ("add", second),
            ("remove", {"keys": [*first["keys"][3:20], *second["keys"][30:40]]}),
            ("update", {"keys": first["keys"][50:60], "labels": ["'"] * 10, "metadata": [{"v": 5}] * 10}),
        ):
            getattr(index, change)(**arguments)
            getattr(oracle, change)(**arguments)
        yield index, oracle


QUERY = clustered(1, seed=63)[0]


def agree(index, oracle, where, k=7):
    everything = oracle.ranked(QUERY, where)
    assert [n.key for n in index.search(QUERY, 1000, where=where)[0]] == everything
    assert [n.key for n in index.search(QUERY, k, where=where, exact=True)[0]] == everything[:k]
    found = [n.key for n in index.search(QUERY, k, where=where)[0]]
    assert len(found) == min(k, len(everything)) and set(found) <= set(everything)
    return everything


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_equal_values(odd, value):
    met = agree(*odd, {"v": value})
    assert met
    assert agree(*odd, {"v": {"eq": value}}) == met
    assert agree(*odd, {"v": {"in": [value]}}) == met
    if value is None or isinstance(value, str):
        assert agree(*odd, {"label": value})


@pytest.mark.parametrize("test", ["lt", "lte", "gt", "gte"])
def test_comparisons(odd, test):
    sizes = [len(agree(*odd, {"v": {test: value}})) for value in [*ODD_TEXTS, *NUMBERS]]
    assert len(set(sizes)) > 5
    for value in ("key-2", "m", "9"):
        assert agree(*odd, {"key": {test: value}})


def test_ranges_and_several_fields(odd):
    for low, high in itertools.product((-5, 0, 2.5), (1, 5, 1e300)):
        agree(*odd, {"v": {"gte": low, "lt": high}})
        agree(*odd, {"v": {"gt": low, "lte": high}, "n": {"gte": 10, "lt": 100}})
    assert agree(*odd, {"v": {"gte": 1, "lt": 6}, "label": {"in": ["'", "ü", "5"]}, "n": {"lt": 140}})
    assert agree(*odd, {"v": 5, "label": "'"})
    assert agree(*odd, {"v": {"gt": 5, "lt": 5}}) == []
    assert agree(*odd, {"label": "no such label"}) == []


def test_several_values(odd):
    mixed = ["'", "%", "ü", 2.5, None, False]
    for values in (["5", 5], [5, None], [True, False], [True, 1], mixed, VALUES, tuple(ODD_TEXTS)):
        assert agree(*odd, {"v": {"in": values}})
        agree(*odd, {"label": {"in": values}})
    assert agree(*odd, {"key": {"in": [f"key-{i}" for i in range(5000)]}})
    assert agree(*odd, {"n": {"in": list(range(0, 100_000, 7))}})


def test_kinds_are_kept_apart(odd):
    _, oracle = odd
    kinds = [{"v": one} for one in (1, True, "1", "true", "5", 5, None, "null", False, 0)]
    met = [set(agree(*odd, where)) for where in kinds]
    for one, other in itertools.combinations(met, 2):
        assert one and other and not one & other
    assert agree(*odd, {"v": 5}) == agree(*odd, {"v": 5.0})
    for number in (5, 1, 0.5):
        for test in ("eq", "lt", "gt"):
            assert agree(*odd, {"label": {test: number}}) == []
        assert agree(*odd, {"label": {"in": [number]}}) == []
    assert agree(*odd, {"label": True}) == []
    # Neither texts nor numbers.
    assert agree(*odd, {"list": "[1]"}) == agree(*odd, {"list": 1}) == []


@pytest.mark.parametrize("name", [*FIELDS, "absent"])
def test_field_names(odd, name):
    assert agree(*odd, {name: None})
    assert bool(agree(*odd, {name: 2})) is (name != "absent")
    assert agree(*odd, {name: {"in": [None, 2]}})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tab\there", 1),
        ("line\nfeed", 1),
        ("text", "tab\there\n"),
        ("text", "\x7f\u2028"),
        ("text", "a\0b"),
        ("text", "a"),
        ("text", "\\u0041"),
        ("text", "A"),
        ("number", 2.0**70),
    ],
)
def test_what_json_escapes(guest, field, value):
    rows, oracle, place = clustered(7, seed=64), oracle_of(guest), guest.place()
    texts = ["tab\there\n", "\x7f\u2028", "\\u0000", "\\u0041", "A"]
    metadata = [{"text": text, "tab\there": 1} for text in texts] + [{"line\nfeed": 1}, {"number": 2**70}]
    block = {"latents": rows, "keys": list("abcdefg"), "metadata": metadata}
    with guest.build(place) as builder:
        # SQLite ends a text at NUL, and would find "a" where "a, NUL, b" is.
        for cut in ({"text": "a\0b"}, {"a\0b": 1}, {"deep": [{"text": "\\\0"}]}):
            with pytest.raises(ValueError, match="NUL"):
                builder.add(rows[:1], ["cut"], metadata=[cut])
        builder.add(**block)
    oracle.add(**block)
    with guest.open(place) as index:
        try:
            found = index.search(QUERY, where={field: value})[0]
        except ValueError:
            return  # a name that cannot be looked up is refused; silence would be a wrong answer
        assert sorted(n.key for n in found) == sorted(oracle.ranked(QUERY, {field: value}))


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({}, "mapping"),
        ("label", "mapping"),
        ([("label", "x")], "mapping"),
        ({"v": {}}, "at least one condition"),
        ({"v": {}, "label": "x"}, "condition"),
        ({"v": {"like": "%"}}, "'v' may use eq, in, lt.*'like'"),
        ({"v": {"eq": 1, "or": 2}}, "'or'"),
        ({"v": {1: 1}}, "may use"),
        ({"v": [1]}, "takes a text"),
        ({"v": {"lt": [1]}}, "takes a text"),
        ({"v": {"eq": {"x": 1}}}, "takes a text"),
        ({"v": b"x"}, "takes a text"),
        ({"v": 1j}, "takes a text"),
        ({"v": {"lt": None}}, "can compare"),
        ({"v": {"gte": True}}, "can compare"),
        ({"label": {"gt": False}}, "can compare"),
        ({"v": {"in": []}}, "at least one value"),
        ({"v": {"in": "abc"}}, "takes a list"),
        ({"v": {"in": {1, 2}}}, "takes a list"),
        ({"v": {"in": 5}}, "takes a list"),
        ({"v": {"in": b"ab"}}, "takes a list"),
        ({"v": {"in": [1, [2]]}}, "takes a text"),
        ({"v": {"in": [float("nan")]}}, "finite"),
        ({"v": float("inf")}, "finite"),
        ({"v": float("nan")}, "finite"),
        ({"v": 2**63}, "64 bits"),
        ({"v": {"in": [-(2**63) - 1]}}, "64 bits"),
        ({"": 1}, "named"),
        ({'a"b': 1}, "quotes"),
        ({"a\\b": 1}, "backslashes"),
        ({5: 1}, "named"),
        ({None: 1}, "named"),
        ({"v": "\ud800"}, "surrogates"),
        ({"\ud800": 1}, "surrogates"),
    ],
    ids=repr,
)
def test_malformed_filters(odd, where, text):
    index, _ = odd
    for ask in (index.search, lambda query, where: index.search_by_key("key-1", where=where)):
        with pytest.raises(ValueError, match=text):
            ask(QUERY, where=where)
    assert index.search(QUERY, 1, where={"v": 5})[0]


def test_a_field_name_with_nul(odd):
    with pytest.raises(ValueError, match="NUL"):
        odd[0].search(QUERY, where={"a\0b": 1})


def test_the_oracle_knows_what_it_is_asked():
    """`meets` shares no code with an index, so it is held to the words of `parse_where` here."""
    item = Item(np.zeros((1, 1)), "Bag", {"price": 5, "sold": True, "none": None}, None)
    good = [{"label": "Bag"}, {"price": {"lt": 20, "gte": 5}}, {"none": None}, {"absent": None}, {"sold": True}]
    bad = [{"label": None}, {"price": {"lt": 5}}, {"sold": 1}, {"price": "5"}, {"label": "Bag", "price": 6}]
    assert [meets(where, "key", item) for where in good + bad] == [True] * 5 + [False] * 5


def test_keys_of_the_items_that_meet_a_filter(guest):
    place = guest.place()
    with guest.build(place) as builder:
        builder.add(clustered(6), list("abcdef"), ["x", "y"] * 3, metadata=[{"n": n} for n in range(6)])
    with guest.open(place) as index:
        index.add(clustered(2, seed=9), ["g", "h"], ["x", "y"], metadata=[{"n": 6}, {"n": 7}])
        index.remove(["c", "h"])
        index.update(["a"], metadata=[{"n": 9}])
        # What was updated keeps its place, or comes behind all others.
        assert sorted(index.keys(where={"label": "x"})) == ["a", "e", "g"]
        in_order = [key for key in index.keys() if key in "aefg"]
        assert index.keys(where={"n": {"gte": 4}, "label": {"in": ["x", "y"]}}) == in_order
        assert index.keys(where={"label": "z"}) == []
        with pytest.raises(ValueError, match="may use"):
            index.keys(where={"label": {"like": "x"}})
