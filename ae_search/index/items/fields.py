"""Fields of the metadata that filters may look up instead of reading every item: a table sorted by value.

Not an index of SQLite over `json_extract`: a connection that trusts no schema refuses those as unsafe. An item without
the field, or with null there, has the kind "null"; arrays and objects meet no condition, and are left out.
"""

import json
import sqlite3
from collections.abc import Sequence

from ae_search.contract import Condition, Scalar, parse_where
from ae_search.errors import ConfigurationError
from ae_search.index.items.conditions import COMPARISONS, SqlCondition, common_and_rare

MAX_FIELDS = 16

SCHEMA = """
CREATE TABLE fields (field INTEGER NOT NULL, kind TEXT NOT NULL, value NOT NULL, id INTEGER NOT NULL,
    PRIMARY KEY (field, kind, value, id)) WITHOUT ROWID;
"""
# All that one field of the items becomes.
_ROWS = """
SELECT CASE WHEN type IN ('integer', 'real') THEN 'number' ELSE ifnull(type, 'null') END AS kind, value, id
FROM (SELECT json_type(metadata, :path) AS type, ifnull(json_extract(metadata, :path), 0) AS value, id FROM items)
WHERE type IS NULL OR type NOT IN ('array', 'object')
"""


def checked_fields(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of fields that filters shall look up.

    Raises:
        ConfigurationError: One cannot be a field of a filter, or is looked up anyway, or there are too many.
    """
    fields = tuple(dict.fromkeys(names))
    try:
        conditions = [parse_where({name: None})[0] for name in fields]
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if own := [condition.field for condition in conditions if condition.field in ("key", "label")]:
        raise ConfigurationError(f"Filters look up {own[0]!r} in any index; name fields of the metadata only.")
    if len(fields) > MAX_FIELDS:
        raise ConfigurationError(f"Filters look up at most {MAX_FIELDS} fields. Received: {len(fields)}.")
    return fields


def fill(connection: sqlite3.Connection, fields: Sequence[str]) -> None:
    """Write the table of a catalogue whose items are written."""
    for number, field in enumerate(fields):
        rows = f"SELECT {number}, kind, value, id FROM ({_ROWS}) ORDER BY kind, value, id"
        connection.execute(f"INSERT INTO fields {rows}", {"path": f'$."{field}"'})


def differences(number: int, field: str) -> tuple[str, dict[str, str]]:
    """Return SQL for rows that are only in the table, or only in the items' metadata, and what it binds."""
    own = f"SELECT kind, value, id FROM fields WHERE field = {number}"
    ours, theirs = f"SELECT * FROM ({own} EXCEPT {_ROWS})", f"SELECT * FROM ({_ROWS} EXCEPT {own})"
    return f"{ours} UNION ALL {theirs} LIMIT 1", {"path": f'$."{field}"'}


def look_up(condition: Condition, number: int) -> SqlCondition:
    """Return a condition on a field, the one of that number, as SQL over the table's columns; values are bound."""
    _, test, value = condition
    if not isinstance(value, tuple):
        sql, values = _one(test, value)
        return f"field = {number} AND {sql}", values
    common, rare = common_and_rare(value)
    parts, bound = ["(kind IN ('number', 'text') AND value IN (SELECT value FROM json_each(?)))"], [json.dumps(common)]
    for one in rare:
        sql, more = _one("eq", one)
        parts.append(f"({sql})")
        bound += more
    return f"field = {number} AND ({' OR '.join(parts)})", bound


def _one(test: str, value: Scalar) -> SqlCondition:
    if value is None:
        return "kind = 'null'", []
    if isinstance(value, bool):
        return "kind = ?", ["true" if value else "false"]
    return f"kind = '{'text' if isinstance(value, str) else 'number'}' AND value {COMPARISONS[test]} ?", [value]
