"""Conditions of a filter as SQL over an item's columns; values are bound, never pasted."""

import json
from typing import Any

from ae_search.contract import ITEM_FIELDS, Condition, Scalar

# SQL, and the values for its question marks.
SqlCondition = tuple[str, list[Any]]

COMPARISONS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def compile_conditions(conditions: tuple[Condition, ...]) -> SqlCondition:
    """Turn conditions that must all hold into one over the columns `key`, `label` and `metadata`."""
    parts: list[str] = []
    values: list[Any] = []
    for condition in conditions:
        sql, bound = _one(condition)
        parts.append(f"({sql})")
        values += bound
    return " AND ".join(parts), values


def _one(condition: Condition) -> SqlCondition:
    field, test, value = condition
    if isinstance(value, tuple):
        return _any_of(field, value)
    expression, kind, path = _columns(field)
    if value is None:
        return f"{expression} IS NULL", path
    if isinstance(value, bool):
        return f"{kind} = ?", [*path, "true" if value else "false"]
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    return f"{kind} IN {kinds} AND {expression} {COMPARISONS[test]} ?", [*path, *path, value]


def _any_of(field: str, values: tuple[Scalar, ...]) -> SqlCondition:
    expression, kind, path = _columns(field)
    # One list of any length is one bound value, whatever SQLite's limit for those is.
    common, rarer = common_and_rare(values)
    parts = [f"({kind} IN ('text', 'integer', 'real') AND {expression} IN (SELECT value FROM json_each(?)))"]
    bound: list[Any] = [*path, *path, json.dumps(common)]
    for rare in rarer:
        sql, more = _one(Condition(field, "eq", rare))
        parts.append(f"({sql})")
        bound += more
    return " OR ".join(parts), bound


def common_and_rare(values: tuple[Scalar, ...]) -> tuple[list[str | int | float], list[bool | None]]:
    """Return the numbers and texts of a list, and which of true, false and null it has."""
    common = [value for value in values if value is not None and not isinstance(value, bool)]
    return common, list({value for value in values if value is None or isinstance(value, bool)})


def _columns(field: str) -> tuple[str, str, list[str]]:
    """Return the SQL of a field's value and of its type, and what each of them binds."""
    if field in ITEM_FIELDS:
        return field, f"typeof({field})", []
    return "json_extract(metadata, ?)", "json_type(metadata, ?)", [f'$."{field}"']
