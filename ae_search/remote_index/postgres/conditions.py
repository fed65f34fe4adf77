"""Conditions of a filter as SQL of PostgreSQL: values are bound, names of fields are quoted."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from psycopg import sql

from ae_search.contract import ITEM_FIELDS, Condition, Scalar
from ae_search.remote_index.postgres.names import name_of

# What a B-tree takes of a text, whatever its letters.
_PART = 256
LABEL_PART = sql.SQL(f"left(label, {_PART})")
# Whole numbers beyond are not all floats.
_EXACT = 2**53
_OPERATORS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_MIRROR_OPERATORS = {"lt": "<=", "lte": "<=", "gt": ">=", "gte": ">="}


class SqlCondition(NamedTuple):
    """SQL over the columns of a generation, and the values for its placeholders."""

    sql: sql.Composable
    values: list[Any]


NOTHING = SqlCondition(sql.SQL("true"), [])


def text_of(field: str) -> sql.Composed:
    """Return SQL for the beginning of a field that is a text; null where it is none."""
    return sql.SQL("left({}, {})").format(_text(field), sql.Literal(_PART))


def number_of(field: str) -> sql.Composed:
    """Return SQL for a field that is a number, as a float; null where it is none.

    A number of more than 300 letters is beyond all floats.
    """
    digits = _digits(field)
    return sql.SQL(
        "CASE WHEN length({0}) <= 300 THEN ({0})::float8 WHEN left({0}, 1) = '-' THEN '-Infinity'::float8 "
        "WHEN {0} IS NOT NULL THEN 'Infinity'::float8 END"
    ).format(digits)


def compile_conditions(conditions: Iterable[Condition]) -> SqlCondition:
    """Turn conditions that must all hold into one."""
    return _joined(map(_one, conditions), " AND ")


def _one(condition: Condition) -> SqlCondition:
    field, test, value = condition
    if test == "in":
        assert isinstance(value, tuple)
        return _any_of(field, value)
    assert not isinstance(value, tuple)
    return _compared(field, test, value)


def _any_of(field: str, values: Sequence[Scalar]) -> SqlCondition:
    """Meet one of some values: texts together and small numbers together, the others one by one."""
    texts = [value for value in values if isinstance(value, str)]
    numbers = [float(value) for value in values if isinstance(value, int | float) and _is_small(value)]
    parts = []
    if texts:
        parts.append(_texts(field, texts))
    if numbers and field not in ITEM_FIELDS:
        parts.append(SqlCondition(sql.SQL("{} = ANY(%s::float8[])").format(number_of(field)), [numbers]))
    rest = {repr(value): value for value in values if not isinstance(value, str) and not _is_small(value)}
    parts += [_compared(field, "eq", value) for value in rest.values()]
    return _joined(parts, " OR ") if parts else SqlCondition(sql.SQL("false"), [])


def _compared(field: str, test: str, value: Scalar) -> SqlCondition:
    if value is None:
        return SqlCondition(sql.SQL("{} IS NULL").format(_any_value(field)), [])
    if isinstance(value, str):
        return _texts(field, [value]) if test == "eq" else _text_order(field, test, value)
    if field in ITEM_FIELDS:
        return SqlCondition(sql.SQL("false"), [])
    if isinstance(value, bool):
        kind = sql.SQL("json_typeof({0}) = 'boolean' AND ({1}) = %s").format(_json(field), _letters(field))
        return SqlCondition(kind, ["true" if value else "false"])
    if _is_small(value):
        return SqlCondition(_operation(number_of(field), test, "float8"), [float(value)])
    return _large(field, test, value)


def _large(field: str, test: str, value: int | float) -> SqlCondition:
    """Compare with a number beyond 2**53: whole numbers exactly, and floats as floats."""
    whole, digits = str(Decimal(value)), _digits(field)
    nearest = float(value)
    if nearest == value:
        as_float = SqlCondition(_operation(number_of(field), test, "float8"), [nearest])
    elif test == "eq":
        as_float = SqlCondition(sql.SQL("false"), [])
    else:
        below = test in ("lt", "lte")
        if (nearest > value) == below:
            nearest = math.nextafter(nearest, -math.inf if below else math.inf)
        as_float = SqlCondition(
            sql.SQL("{} {} %s::float8").format(number_of(field), sql.SQL(_MIRROR_OPERATORS[test])), [nearest]
        )
    exact = _operation(sql.SQL("({})::numeric").format(digits), test, "numeric")
    chosen = sql.SQL("CASE WHEN {0} ~ '^-?[0-9]+$' AND length({0}) <= 1000 THEN {1} ELSE {2} END").format(
        digits, exact, as_float.sql
    )
    return SqlCondition(chosen, [whole, *as_float.values])


def _texts(field: str, values: list[str]) -> SqlCondition:
    """Meet one of some texts, by an index where the field has one."""
    if field == "key":
        return SqlCondition(sql.SQL("name = ANY(%s::uuid[])"), [[name_of(value) for value in values]])
    part = LABEL_PART if field == "label" else text_of(field)
    whole = sql.SQL("label") if field == "label" else _text(field)
    both = sql.SQL("{} = ANY(%s::text[]) AND {} = ANY(%s::text[])").format(part, whole)
    return SqlCondition(both, [[value[:_PART] for value in values], values])


def _text_order(field: str, test: str, value: str) -> SqlCondition:
    whole = sql.Identifier(field) if field in ITEM_FIELDS else _text(field)
    return SqlCondition(_operation(whole, test, "text", ' COLLATE "C"'), [value])


def _operation(left: sql.Composable, test: str, kind: str, collation: str = "") -> sql.Composed:
    return sql.SQL("{} {} %s::{}{}").format(left, sql.SQL(_OPERATORS[test]), sql.SQL(kind), sql.SQL(collation))


def _quoted(field: str) -> sql.SQL:
    """Return a field's name as a literal, as it stands in the expressions of an index; psycopg wants each % twice."""
    return sql.SQL(sql.Literal(field).as_string().replace("%", "%%"))


def _json(field: str) -> sql.Composed:
    return sql.SQL("(metadata -> {})").format(_quoted(field))


def _letters(field: str) -> sql.Composed:
    return sql.SQL("(metadata ->> {})").format(_quoted(field))


def _any_value(field: str) -> sql.Composable:
    return sql.Identifier(field) if field in ITEM_FIELDS else _letters(field)


def _of_kind(field: str, kind: str) -> sql.Composed:
    return sql.SQL("CASE WHEN json_typeof({}) = {} THEN {} END").format(
        _json(field), sql.Literal(kind), _letters(field)
    )


def _text(field: str) -> sql.Composed:
    return sql.SQL('(({}) COLLATE "C")').format(_of_kind(field, "string"))


def _digits(field: str) -> sql.Composed:
    return sql.SQL("({})").format(_of_kind(field, "number"))


def _is_small(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _EXACT


def _joined(parts: Iterable[SqlCondition], word: str) -> SqlCondition:
    listed = list(parts)
    whole = sql.SQL(word).join(sql.SQL("({})").format(part.sql) for part in listed)
    return SqlCondition(whole, [value for part in listed for value in part.values])
