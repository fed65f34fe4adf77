"""`tf.train.Example` without TensorFlow: the first value of some features, without unpacking the others.

Parsed as a whole, two bytes of a hostile record can become two hundred; here nothing is made of what nobody asks for.
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
"""

import struct
from collections.abc import Iterator

Value = bytes | int | float
_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_MAX_FIELDS = 100_000


def parse_example(record: bytes, wanted: frozenset[str]) -> dict[str, Value | None]:
    """Return the first value of each wanted feature that a record has, None where it is an empty list.

    Args:
        record: A serialized `tf.train.Example`.
        wanted: Names of features.

    Raises:
        ValueError: It is malformed, or has too many parts.
    """
    names = {name.encode() for name in wanted}
    found: dict[str, Value | None] = {}
    for name, feature in _features(record):
        if bytes(name) in names:
            found[bytes(name).decode()] = _first_value(feature)
    return found


def feature_names(record: bytes) -> list[str]:
    """Return the names of all features of a record, sorted.

    Raises:
        ValueError: It is malformed.
    """
    return sorted({bytes(name[:100]).decode(errors="replace") for name, _ in _features(record)})


def _features(record: bytes) -> Iterator[tuple[memoryview, memoryview]]:
    count = 0
    for field, kind, features in _fields(memoryview(record)):
        if (field, kind) != (1, _BYTES):
            continue
        for inner, inner_kind, entry in _fields(features):
            count += 1
            if count > _MAX_FIELDS:
                raise ValueError("it has too many features")
            if (inner, inner_kind) == (1, _BYTES):
                parts = {part: value for part, k, value in _fields(entry) if k == _BYTES}
                yield parts.get(1, memoryview(b"")), parts.get(2, memoryview(b""))


def _first_value(feature: memoryview) -> Value | None:
    found: tuple[int, Value] | None = None
    for kind, wire, values in _fields(feature):
        # Later lists of the same kind continue the first; those of another kind take its place.
        if wire == _BYTES and kind in (_BYTES_LIST, _FLOAT_LIST, _INT64_LIST):
            if found is None or found[0] != kind:
                first = _first_of(kind, values)
                found = None if first is None else (kind, first)
    return None if found is None else found[1]


def _first_of(kind: int, values: memoryview) -> Value | None:
    for field, wire, value in _fields(values):
        if field != 1:
            continue
        if kind == _BYTES_LIST and wire == _BYTES:
            return bytes(value)
        if kind == _FLOAT_LIST and (wire == _I32 or (wire == _BYTES and len(value) >= 4)):
            return float(struct.unpack_from("<f", value)[0])
        if kind == _INT64_LIST and (wire == _VARINT or (wire == _BYTES and value)):
            number, _ = _varint(value, 0)
            return number - 2**64 if number >= 2**63 else number
    return None


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield number, kind and bytes of each field of a message."""
    at = count = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        count += 1
        if kind == _VARINT:
            _, end = _varint(data, at)
        elif kind == _BYTES:
            size, at = _varint(data, at)
            end = at + size
        elif kind in (_I64, _I32):
            end = at + (8 if kind == _I64 else 4)
        else:
            raise ValueError("it has a field of an unknown kind")
        if end > len(data) or tag >> 3 == 0 or count > _MAX_FIELDS:
            raise ValueError("it is cut short, or has too many parts")
        yield tag >> 3, kind, data[at:end]
        at = end


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), at
    raise ValueError("it has a number of more than 64 bits")
