"""JSON that a stranger may have written: an object with values of the right type and in their range, or a ValueError.

Decision 19 says why no library does this.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

# Annoy, among others, counts in C ints.
MAX_COUNT = 2**31 - 1
# What fits into 64 bits, as protobuf and SQLite have them.
MAX_WHOLE = 2**63 - 1


def parsed_object(text: str | bytes, *, max_bytes: int, finite: bool = True) -> dict[str, Any]:
    """Parse one JSON object in which each key occurs once.

    Args:
        text: Text, or bytes of UTF-8.
        max_bytes: Length of the text, at most.
        finite: Whether to refuse NaN and infinities, `1e999` among them.

    Raises:
        ValueError: It is no such object.
    """
    if len(text) > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    number = _finite if finite else float
    try:
        raw = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_each_key_once,
            parse_float=number,
            parse_constant=number,
        )
    except RecursionError as error:
        raise ValueError("lists or objects lie too deep in each other") from error
    if not isinstance(raw, dict):
        raise ValueError("it is no JSON object")
    return raw


def value_of(raw: dict[str, Any], name: str, kind: type) -> Any:
    """Return a value of exactly this type; `true` is no number here."""
    value = raw.get(name)
    if type(value) is not kind:
        raise ValueError(f"{name!r} must be of type {kind.__name__}. Received: {_shown(value)}")
    return value


def object_of(raw: dict[str, Any], name: str, *, max_nesting: int | None = None) -> dict[str, Any]:
    """Return an object, in which others lie up to so many levels deep."""
    value: dict[str, Any] = value_of(raw, name, dict)
    if max_nesting is not None and _nesting(value) > max_nesting:
        raise ValueError(f"{name!r} must have at most {max_nesting} levels")
    return value


def text_of(raw: dict[str, Any], name: str) -> str:
    """Return a text that is not empty."""
    value: str = value_of(raw, name, str)
    if not value:
        raise ValueError(f"{name!r} is empty")
    return value


def printable_of(raw: dict[str, Any], name: str, max_length: int) -> str:
    """Return a text, maybe an empty one, of printable characters; halves of surrogate pairs are none."""
    value: str = value_of(raw, name, str)
    if len(value) > max_length or not value.isprintable():
        raise ValueError(f"{name} is not printable text of at most {max_length} characters")
    return value


def one_of(raw: dict[str, Any], name: str, choices: Sequence[Any]) -> Any:
    """Return a text that is one of some."""
    value: str = value_of(raw, name, str)
    if value not in choices:
        raise ValueError(f"{name!r} must be one of {', '.join(map(str, choices))}. Received: {value[:60]!r}")
    return value


def whole_of(raw: dict[str, Any], name: str, low: int, high: int = MAX_COUNT) -> int:
    """Return a whole number in [low, high]."""
    return _whole(raw.get(name), name, low, high)


def wholes_of(raw: dict[str, Any], name: str, count: int, high: int = MAX_COUNT) -> tuple[int, ...]:
    """Return a list of so many whole numbers in [1, high]."""
    values: list[Any] = value_of(raw, name, list)
    if len(values) != count:
        raise ValueError(f"{name!r} must hold {count} numbers. Received: {len(values)}")
    return tuple(_whole(value, name, 1, high) for value in values)


def number_of(raw: dict[str, Any], name: str, high: float = math.inf) -> float:
    """Return a finite number in [0, high]."""
    value = raw.get(name)
    try:
        number = float(value) if type(value) is int else float(value_of(raw, name, float))
    except OverflowError as error:
        raise ValueError(f"{name!r} is too large") from error
    if not (math.isfinite(number) and 0.0 <= number <= high):
        raise ValueError(f"{name!r} must lie in [0, {high}]. Received: {number}")
    return number


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int:
        raise ValueError(f"{name!r} must be a whole number. Received: {_shown(value)}")
    if not low <= value <= high:
        raise ValueError(f"{name!r} must lie in [{low}, {high}]. Received: {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """Return what to say of a wrong value; objects and lists may be too deep to be written out."""
    return type(value).__name__ if isinstance(value, dict | list) else repr(value)[:60]


def _nesting(value: Any) -> int:
    """Return how deep objects and lists lie in each other, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [each for one in inner for each in one]
    return depth


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice, of which readers take this one or that."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value
