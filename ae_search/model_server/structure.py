"""Bounds on the structure of a large PredictRequest, read from its bytes before protobuf makes objects of them.

Two bytes on the wire can become a hundred in memory: an empty dimension, string or output filter. Only tags and lengths
are looked at, and the first count that passes its bound ends the reading.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from ae_search.model_server.refusal import NO_MESSAGE, RequestRefused

# TensorFlow's own limit.
MAX_RANK = 254
# In all messages, beside the values of tensors: names, dimensions, output filters, what is unknown.
MAX_FIELDS = 4096
# Strings, and numbers that are not packed: each is a field of its own.
MAX_VALUES = 2**17
# Packed numbers of any length: a byte of them becomes four or eight in memory.
MAX_VARINTS = 2**24
MAX_NAME_BYTES = 4096

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Where protobuf would go on reading: the messages of the messages, by field. The rest has no structure.
_Parts = dict[int, Any]
_FLAT: _Parts = {}
_SHAPE: _Parts = {2: _FLAT}
_TENSOR: _Parts = {2: _SHAPE}
_INPUT: _Parts = {2: _TENSOR}
_SPEC: _Parts = {2: _FLAT}
_REQUEST: _Parts = {1: _SPEC, 2: _INPUT}

_DIMS = 2
_CONTENT = frozenset({4, 18})
_STRINGS = 8
_PACKED_FIXED = frozenset({5, 6, 9, 12})
_PACKED_VARINTS = frozenset({7, 10, 11, 13, 16, 17})
_VALUES = _PACKED_FIXED | _PACKED_VARINTS | {_STRINGS}
# Tensors of tensors, which no signature takes.
_NESTED = frozenset({14, 15})


@dataclass
class _Counts:
    fields: int = 0
    values: int = 0
    varints: int = 0


def check_predict_request(data: bytes) -> None:
    """Refuse the bytes of a PredictRequest that would become many more.

    Raises:
        RequestRefused: It has too many fields, dimensions or values, too long a name, or the bytes are no message.
    """
    try:
        _check(data, (0, len(data)), _REQUEST, _Counts())
    except IndexError:
        raise RequestRefused(grpc.StatusCode.INTERNAL, NO_MESSAGE) from None


def _check(data: bytes, span: tuple[int, int], parts: _Parts, counts: _Counts) -> None:
    dims = 0
    for field, kind, start, end in _fields(data, *span):
        if parts is _TENSOR and field in _VALUES:
            _count_values(data, field, kind, (start, end), counts)
            continue
        counts.fields += 1
        if counts.fields > MAX_FIELDS:
            raise _refused(f"more than {MAX_FIELDS} fields")
        if parts is _SHAPE and field == _DIMS:
            dims += 1
            if dims > MAX_RANK:
                raise _refused(f"a tensor of more than {MAX_RANK} dimensions")
        if kind != _BYTES or (parts is _TENSOR and field in _CONTENT):
            continue
        if parts is _TENSOR and field in _NESTED:
            raise _refused("a tensor of resources or variants")
        inner = parts.get(field)
        if inner is not None:
            _check(data, (start, end), inner, counts)
        elif end - start > MAX_NAME_BYTES:
            raise _refused(f"a name of more than {MAX_NAME_BYTES} bytes")


def _count_values(data: bytes, field: int, kind: int, span: tuple[int, int], counts: _Counts) -> None:
    counts.values += 1
    if counts.values > MAX_VALUES:
        raise _refused(f"more than {MAX_VALUES} strings or unpacked numbers")
    if kind == _BYTES and field in _PACKED_VARINTS:
        octets = np.frombuffer(data, np.uint8, span[1] - span[0], span[0])
        # The last byte of each number is below 128.
        counts.varints += int(np.count_nonzero(octets < 0x80))
        if counts.varints > MAX_VARINTS:
            raise _refused(f"more than {MAX_VARINTS} numbers that are not in tensor_content")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message: number, wire type, and where their content begins and ends.

    Raises:
        IndexError: The bytes are no message.
        RequestRefused: They hold a group, which no message of these has.
    """
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        start = at
        if kind == _BYTES:
            size, start = _varint(data, at, end)
            at = start + size
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _FIXED32:
            at += 4
        elif kind == _FIXED64:
            at += 8
        else:
            raise _refused("a group")
        if at > end:
            raise IndexError(at)
        yield tag >> 3, kind, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    octet = data[at]
    number, shift = octet & 0x7F, 7
    at += 1
    while octet >= 0x80:
        if at >= end or shift > 63:
            raise IndexError(at)
        octet = data[at]
        number |= (octet & 0x7F) << shift
        shift += 7
        at += 1
    return number, at


def _refused(what: str) -> RequestRefused:
    return RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, f"The request has {what}, which no model here takes.")
