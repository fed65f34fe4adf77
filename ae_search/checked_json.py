"""Values of a JSON object that a stranger may have written: of the right type and in their range, or a ValueError."""

import math
from typing import Any

# Annoy counts in C ints.
MAX_COUNT = 2**31 - 1


def value_of(raw: dict[str, Any], name: str, kind: type) -> Any:
    """Return a value of a type."""
    value = raw.get(name)
    # bool is a subclass of int, but `true` is no number here.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name!r} must be of type {kind.__name__}. Received: {str(value)[:60]!r}")
    return value


def object_of(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object."""
    value: dict[str, Any] = value_of(raw, name, dict)
    return value


def text_of(raw: dict[str, Any], name: str) -> str:
    """Return a text that is not empty."""
    value: str = value_of(raw, name, str)
    if not value:
        raise ValueError(f"{name!r} is empty")
    return value


def whole_of(raw: dict[str, Any], name: str, low: int, high: int = MAX_COUNT) -> int:
    """Return a whole number in [low, high]."""
    value: int = value_of(raw, name, int)
    if not low <= value <= high:
        raise ValueError(f"{name!r} must lie in [{low}, {high}]. Received: {value}")
    return value


def number_of(raw: dict[str, Any], name: str, high: float = math.inf) -> float:
    """Return a finite number in [0, high]."""
    value = raw.get(name)
    number = float(value) if type(value) is int else float(value_of(raw, name, float))
    if not (math.isfinite(number) and 0.0 <= number <= high):
        raise ValueError(f"{name!r} must lie in [0, {high}]. Received: {number}")
    return number
