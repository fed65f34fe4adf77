"""Conditions of a filter: a rough one that the server applies to all rows, and the exact one for what it returns.

The server compares only numbers that were made here of names and values: nothing of a caller stands in an expression. A
rough condition leaves out no row that meets the exact one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ae_search.contract import ITEM_FIELDS, Condition, Scalar, metadata_of

# Whole numbers of JSON are exact up to here, and so are hashes of so many bits.
_EXACT = 2**53
_LARGEST = 1.7e308
_MOST_VALUES = 100
_PREFIX_BYTES = 6
_OPERATORS = {"eq": "==", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def key_hash(key: str) -> int:
    """Return what a key is looked up by: 63 bits of its sha256."""
    return int.from_bytes(_digest(key)[:8], "big") >> 1


def label_hash(label: str | None) -> int:
    """Return what a label is looked up by; 0 for none."""
    return 0 if label is None else key_hash(label)


def fields_of(key: str, label: str | None, metadata: str | None) -> dict[str, float]:
    """Return what rough conditions compare, by names that are hashes of the fields'."""
    found: dict[str, float] = {"key_p": _prefix(key)}
    if label is not None:
        found["label_p"] = _prefix(label)
    for field, value in metadata_of(metadata).items():
        name = _name(field)
        if value is not None:
            found[name + "x"] = 1
        if isinstance(value, bool):
            found[name + "b"] = int(value)
        elif isinstance(value, int | float):
            found[name + "n"] = _float(value)
        elif isinstance(value, str):
            found |= {name + "t": _hash(value), name + "p": _prefix(value)}
    return found


def rough(conditions: Iterable[Condition]) -> str:
    """Return an expression of Milvus that all rows meet which meet the conditions; "" where that would be all rows."""
    parts = filter(None, map(_rough, conditions))
    return " and ".join(f"({part})" for part in parts)


def meets(conditions: Iterable[Condition], key: str, label: str | None, metadata: str | None) -> bool:
    """Tell whether an item meets some conditions, as `parse_where` promises it."""
    read: dict[str, Any] | None = None
    for field, test, wanted in conditions:
        if field in ITEM_FIELDS:
            value: Any = key if field == "key" else label
        else:
            read = metadata_of(metadata) if read is None else read
            value = read.get(field)
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        if not any(_meets(value, "eq" if test == "in" else test, one) for one in values):
            return False
    return True


def fields_json(fields: Mapping[str, float]) -> str:
    """Return the fields as Milvus stores them."""
    return json.dumps(fields, separators=(",", ":"))


def _meets(value: Any, test: str, wanted: Scalar) -> bool:
    if _kind(value) is not _kind(wanted):
        return False
    if test == "eq":
        return bool(value == wanted)
    return bool({"lt": value < wanted, "lte": value <= wanted, "gt": value > wanted, "gte": value >= wanted}[test])


def _kind(value: Any) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _rough(condition: Condition) -> str:
    field, test, value = condition
    if test != "in":
        assert not isinstance(value, tuple)
        return _compared(field, test, value)
    assert isinstance(value, tuple)
    if field == "key":
        return _any_of("key_hash", {key_hash(one) for one in value if isinstance(one, str)})
    if field == "label":
        return _any_of("label_hash", {label_hash(one) for one in value if one is None or isinstance(one, str)})
    parts = {_compared(field, "eq", one) for one in value}
    if "" in parts or len(parts) > _MOST_VALUES:
        return ""
    # Milvus takes what follows "exists" as its field, up to the end.
    return " or ".join(f"({part})" for part in sorted(parts))


def _compared(field: str, test: str, value: Scalar) -> str:
    operator = _OPERATORS[test]
    if field in ITEM_FIELDS:
        if test == "eq":
            of = {key_hash(value)} if isinstance(value, str) else set()
            if field == "label":
                of = {label_hash(value)} if value is None or isinstance(value, str) else set()
            return _any_of(f"{field}_hash", of)
        return _prefixes(field + "_", test, value) if isinstance(value, str) else _any_of("key_hash", set())
    name = _name(field)
    if value is None:
        return f'not (exists fields["{name}x"])'
    if isinstance(value, bool):
        return f'fields["{name}b"] {operator} {int(value)}'
    if isinstance(value, str):
        return f'fields["{name}t"] == {_hash(value)}' if test == "eq" else _prefixes(name, test, value)
    if abs(value) >= _EXACT:
        return f'exists fields["{name}n"]'
    return f'fields["{name}n"] {operator} {float(value)!r}'


def _prefixes(name: str, test: str, value: str) -> str:
    """Compare the beginnings of texts, which are in the order of the texts, or equal."""
    return f'fields["{name}p"] {"<=" if test.startswith("lt") else ">="} {_prefix(value)}'


def _any_of(column: str, values: set[int]) -> str:
    # No row has a negative hash.
    return f"{column} in [{', '.join(map(str, sorted(values) or [-1]))}]"


def _name(field: str) -> str:
    return "f" + _digest(field).hex()[:16]


def _hash(text: str) -> int:
    return int.from_bytes(_digest(text)[:8], "big") % _EXACT


def _prefix(text: str) -> int:
    return int.from_bytes(text.encode(errors="surrogatepass")[:_PREFIX_BYTES].ljust(_PREFIX_BYTES, b"\0"), "big")


def _float(value: int | float) -> float:
    try:
        return max(-_LARGEST, min(_LARGEST, float(value)))
    except OverflowError:
        return _LARGEST if value > 0 else -_LARGEST


def _digest(text: str) -> bytes:
    # A text that is no Unicode has the digest of another one, which no item has: those are refused.
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
