"""JSON of strangers: what passes has the type and the range that was asked for, and what fails is a ValueError."""

import json

import pytest

from ae_search.checked_json import (
    MAX_WHOLE,
    number_of,
    object_of,
    one_of,
    parsed_object,
    printable_of,
    text_of,
    value_of,
    whole_of,
    wholes_of,
)

DEEP = '{"a": ' + 900 * "[" + 900 * "]" + "}"
RECEIVED = {
    "nothing": None,
    "true": True,
    "false": False,
    "a float": 1.0,
    "a text": "1",
    "an empty text": "",
    "a list": [1, 2, 3],
    "an object": {"b": 1},
    "a deep list": json.loads(DEEP)["a"],
    "2**63": 2**63,
    "10**400": 10**400,
    "below": -1,
    "half a pair": "\ud800",
}


def parsed(text, **options):
    return parsed_object(text, **{"max_bytes": 10_000, **options})


@pytest.mark.parametrize(
    "text", ['{"a": 1, "b": [1.5, "é"]}', '{"a": 1, "b": [1.5, "é"]}'.encode()], ids=["str", "bytes"]
)
def test_an_object_is_parsed(text):
    assert parsed(text) == {"a": 1, "b": [1.5, "é"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "null",
        '{"a": 1',
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": NaN}',
        '{"a": [-Infinity]}',
        '{"a": 1e999}',
        b"\xff{}",
        '{"a": ' + 5000 * "9" + "}",
        '{"a": ' + 4000 * "[" + 4000 * "]" + "}",
        '{"a": "' + 10_000 * " " + '"}',
    ],
    ids=range(14),
)
def test_what_is_no_good_object_is_refused(text):
    with pytest.raises(ValueError):
        parsed(text)


def test_numbers_that_are_not_finite_pass_where_they_may():
    assert parsed('{"a": Infinity, "b": 1e999}', finite=False) == {"a": float("inf"), "b": float("inf")}


@pytest.mark.parametrize(
    ("read", "good"),
    [
        (lambda raw: value_of(raw, "a", bool), {"true", "false"}),
        (lambda raw: value_of(raw, "a", str), {"a text", "an empty text", "half a pair"}),
        (lambda raw: object_of(raw, "a"), {"an object"}),
        (lambda raw: text_of(raw, "a"), {"a text", "half a pair"}),
        (lambda raw: printable_of(raw, "a", 3), {"a text", "an empty text"}),
        (lambda raw: one_of(raw, "a", ("1", "2")), {"a text"}),
        (lambda raw: whole_of(raw, "a", 0, MAX_WHOLE), set()),
        (lambda raw: whole_of(raw, "a", -1), {"below"}),
        (lambda raw: wholes_of(raw, "a", 3), {"a list"}),
        (lambda raw: wholes_of(raw, "a", 2), set()),
        (lambda raw: wholes_of(raw, "a", 3, 2), set()),
        (lambda raw: number_of(raw, "a"), {"a float", "2**63"}),
        (lambda raw: number_of(raw, "a", 0.5), set()),
    ],
    ids=[
        "bool",
        "str",
        "object",
        "text",
        "printable",
        "one",
        "whole",
        "whole-below",
        "wholes",
        "two-wholes",
        "small-wholes",
        "number",
        "small-number",
    ],
)
def test_a_value_has_the_type_and_range_that_is_asked_for(read, good):
    passed = set()
    for name, value in RECEIVED.items():
        try:
            read({"a": value} if value is not None else {})
        except ValueError as error:
            assert len(str(error)) < 200
            continue
        passed.add(name)
    assert passed == good


def test_an_object_has_so_many_levels_at_most():
    raw = {"a": {"b": {"c": [1]}}}
    assert object_of(raw, "a", max_nesting=4) == raw["a"]
    with pytest.raises(ValueError, match="at most 3 levels"):
        object_of(raw, "a", max_nesting=3)
