"""Filters: a mapping of conditions, turned into SQL whose values are bound, never pasted."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Scalar = str | int | float | bool | None
Where = Mapping[str, Scalar | Mapping[str, Scalar | Sequence[Scalar]]]

# SQL, and the values for its question marks.
Condition = tuple[str, list[Any]]

# SQLite's own limit on the depth of an expression is 1,000.
_MAX_CONDITIONS = 100
_COLUMNS = ("key", "label")
_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_TESTS = ("eq", "in", *_COMPARISONS)


def compile_where(where: Where) -> Condition:
    """Turn a filter into an SQL condition over the columns `key`, `label` and `metadata`.

    Args:
        where: Conditions that must all hold. "key" and "label" are the item's own; any other name is a field at the top
            of its metadata. A value must be equal; `{"in": [...]}` accepts several; `{"lt": 20}`, `lte`, `gt` and
            `gte` compare numbers with numbers and texts with texts (by code point); None is met by null and by a
            missing field; true and 1 differ. `{"gte": 10, "lt": 20}` is a range.

    Raises:
        ValueError: A condition is malformed; the text says which.
    """
    if not isinstance(where, Mapping) or not where:
        raise ValueError(f'A filter is a mapping such as {{"label": "Bag"}}. Received: {where!r}.')
    parts: list[str] = []
    values: list[Any] = []
    for name, tests in where.items():
        if isinstance(tests, Mapping) and not tests:
            raise ValueError(f"A filter on {name!r} needs at least one condition. Received: {tests!r}.")
        for test, value in tests.items() if isinstance(tests, Mapping) else [("eq", tests)]:
            sql, bound = _one(name, test, value)
            parts.append(f"({sql})")
            values += bound
    if len(parts) > _MAX_CONDITIONS:
        raise ValueError(f"A filter may have {_MAX_CONDITIONS} conditions. Received: {len(parts)}.")
    return " AND ".join(parts), values


def _one(name: str, test: str, value: Any) -> Condition:
    expression, kind, path = _field(name)
    if test not in _TESTS:
        raise ValueError(f"A filter on {name!r} may use {', '.join(_TESTS)}. Received: {test!r}.")
    if test == "in":
        return _any_of(name, value)
    _check_scalar(name, value)
    if value is None or isinstance(value, bool):
        if test != "eq":
            raise ValueError(f"A filter on {name!r} can compare numbers or texts by {test!r}. Received: {value!r}.")
        if value is None:
            return f"{expression} IS NULL", path
        return f"{kind} = ?", [*path, "true" if value else "false"]
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    return f"{kind} IN {kinds} AND {expression} {_COMPARISONS.get(test, '=')} ?", [*path, *path, value]


def _any_of(name: str, values: Any) -> Condition:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"A filter on {name!r} by 'in' takes a list with at least one value. Received: {values!r}.")
    for value in values:
        _check_scalar(name, value)
    expression, kind, path = _field(name)
    # One list of any length is one bound value, whatever SQLite's limit for those is.
    common = [value for value in values if value is not None and not isinstance(value, bool)]
    parts = [f"({kind} IN ('text', 'integer', 'real') AND {expression} IN (SELECT value FROM json_each(?)))"]
    bound: list[Any] = [*path, *path, json.dumps(common)]
    for rare in {value for value in values if value is None or isinstance(value, bool)}:
        sql, more = _one(name, "eq", rare)
        parts.append(f"({sql})")
        bound += more
    return " OR ".join(parts), bound


def _field(name: str) -> tuple[str, str, list[str]]:
    """Return the SQL of a field's value and of its type, and what each of them binds."""
    if name in _COLUMNS:
        return name, f"typeof({name})", []
    if isinstance(name, str):
        name.encode()
    # SQLite has no way to name the others.
    if not isinstance(name, str) or not name or any(letter in '"\\' or letter < " " for letter in name):
        raise ValueError(
            f"A filter's field must be named without quotes, backslashes, NUL and the like. Received: {name!r}."
        )
    return "json_extract(metadata, ?)", "json_type(metadata, ?)", [f'$."{name}"']


def _check_scalar(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"A filter on {name!r} takes a text, a number, true, false or null. Received: {value!r}.")
    if isinstance(value, str):
        value.encode()  # a lone surrogate is a ValueError
        if "\0" in value:
            raise ValueError(f"A filter on {name!r} takes texts without NUL. Received: {value!r}.")
    too_large = isinstance(value, int) and not -(2**63) <= value < 2**63
    if too_large or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"A filter on {name!r} takes finite numbers of at most 64 bits. Received: {value!r}.")
