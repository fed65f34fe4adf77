"""Filters: a mapping of conditions, parsed once; each engine turns them into its own query language."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

Scalar = str | int | float | bool | None
Where = Mapping[str, Scalar | Mapping[str, Scalar | Sequence[Scalar]]]
Test = Literal["eq", "in", "lt", "lte", "gt", "gte"]

# SQLite's limit on the depth of an expression is 1,000.
MAX_CONDITIONS = 100
ITEM_FIELDS = ("key", "label")
_TESTS: tuple[Test, ...] = get_args(Test)


class Condition(NamedTuple):
    """One condition that an item must meet.

    Attributes:
        field: "key" or "label", which are the item's own, or the name of a field at the top of its metadata.
        test: "eq" or "in", or "lt", "lte", "gt", "gte", which compare numbers with numbers and texts with texts.
        value: What to compare with; a tuple of at least one value for "in".
    """

    field: str
    test: Test
    value: Scalar | tuple[Scalar, ...]


def parse_where(where: Where) -> tuple[Condition, ...]:
    """Check a filter and return its conditions, all of which must hold.

    Args:
        where: Conditions by field. "key" and "label" are the item's own; any other name is a field at the top of its
            metadata. A value must be equal; `{"in": [...]}` accepts several; `{"lt": 20}`, `lte`, `gt` and `gte`
            compare numbers with numbers and texts with texts (by code point); None is met by null and by a missing
            field; true and 1 differ. `{"gte": 10, "lt": 20}` is a range.

    Raises:
        ValueError: A condition is malformed; the text says which.
    """
    if not isinstance(where, Mapping) or not where:
        raise ValueError(f'A filter is a mapping such as {{"label": "Bag"}}. Received: {where!r}.')
    conditions: list[Condition] = []
    for field, tests in where.items():
        _check_field(field)
        if isinstance(tests, Mapping) and not tests:
            raise ValueError(f"A filter on {field!r} needs at least one condition. Received: {tests!r}.")
        pairs = tests.items() if isinstance(tests, Mapping) else [("eq", tests)]
        conditions += [_condition(field, test, value) for test, value in pairs]
    if len(conditions) > MAX_CONDITIONS:
        raise ValueError(f"A filter may have {MAX_CONDITIONS} conditions. Received: {len(conditions)}.")
    return tuple(conditions)


def _condition(field: str, test: Any, value: Any) -> Condition:
    if test not in _TESTS:
        raise ValueError(f"A filter on {field!r} may use {', '.join(_TESTS)}. Received: {test!r}.")
    if test == "in":
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(
                f"A filter on {field!r} by 'in' takes a list with at least one value. Received: {value!r}."
            )
        for one in value:
            _check_scalar(field, one)
        return Condition(field, test, tuple(value))
    _check_scalar(field, value)
    if test != "eq" and (value is None or isinstance(value, bool)):
        raise ValueError(f"A filter on {field!r} can compare numbers or texts by {test!r}. Received: {value!r}.")
    return Condition(field, test, value)


def _check_field(field: Any) -> None:
    if isinstance(field, str):
        field.encode()  # a lone surrogate is a ValueError
    # SQLite has no way to name the others.
    if not isinstance(field, str) or not field or any(letter in '"\\' or letter < " " for letter in field):
        raise ValueError(
            f"A filter's field must be named without quotes, backslashes, NUL and the like. Received: {field!r}."
        )


def _check_scalar(field: str, value: Any) -> None:
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"A filter on {field!r} takes a text, a number, true, false or null. Received: {value!r}.")
    if isinstance(value, str):
        value.encode()  # a lone surrogate is a ValueError
        if "\0" in value:
            raise ValueError(f"A filter on {field!r} takes texts without NUL. Received: {value!r}.")
    too_large = isinstance(value, int) and not -(2**63) <= value < 2**63
    if too_large or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"A filter on {field!r} takes finite numbers of at most 64 bits. Received: {value!r}.")
