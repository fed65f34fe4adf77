"""TensorProto to tensor and back, as TensorFlow Serving does it, with a bound on what a request may claim."""

import math
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from ae_search.model_server.refusal import RequestRefused

MAX_DECODED_BYTES = 256 * 2**20
# sizeof(tensorflow::tstring)
STRING_BYTES = 24

# TensorFlow's own limit.
MAX_RANK = 254
# What a few values may be repeated to; strings may be images, each of which is decoded.
MAX_REPEATED_BYTES = 16 * 2**20
MAX_REPEATED_STRINGS = 256
# What is decoded or encoded in less than a millisecond.
QUICK_VALUES = 2**16

# Fields of TensorProto whose packed form is the array's own bytes.
_PACKED_FIELDS: dict[Any, int] = {tf.float32: 5, tf.float64: 6}
_LENGTH_DELIMITED = 2

_VALUE_FIELDS: dict[Any, str] = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.uint8: "int_val",
    tf.int8: "int_val",
    tf.uint16: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def shape_of(name: str, proto: Any) -> tuple[int, ...]:
    """Return the shape that a TensorProto claims.

    Raises:
        RequestRefused: It is not a whole, known shape.
    """
    if (rank := len(proto.tensor_shape.dim)) > MAX_RANK:
        raise _malformed(name, f"it has {rank} dimensions, at most {MAX_RANK} are possible")
    shape = tuple(int(dim.size) for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise _malformed(name, "its shape is not fully known")
    return shape


def dtype_of(name: str, proto: Any) -> Any:
    """Return the `tf.DType` of a TensorProto.

    Raises:
        RequestRefused: There is no such dtype.
    """
    try:
        return tf.dtypes.as_dtype(proto.dtype)
    except (TypeError, ValueError) as error:
        raise _malformed(name, f"its dtype {proto.dtype} is unknown") from error


def is_quick(proto: Any) -> bool:
    """Return whether a TensorProto, right or wrong, is decoded quickly: it is small, or the array's own bytes."""
    if len(proto.tensor_shape.dim) > MAX_RANK:
        return False
    count = math.prod(int(dim.size) for dim in proto.tensor_shape.dim)
    if proto.dtype == types_pb2.DT_STRING:
        return bool(len(proto.string_val) == count <= QUICK_VALUES)
    return count <= QUICK_VALUES or bool(proto.tensor_content)


def decode_tensor(name: str, proto: Any) -> npt.NDArray[Any]:
    """Return the values of a TensorProto; strings as objects.

    Args:
        name: Input name, for errors.
        proto: A `tensorflow.TensorProto`; fewer values than its shape claims repeat the last one.

    Raises:
        RequestRefused: It is malformed, or more than 256 MiB when decoded.
    """
    dtype, shape = dtype_of(name, proto), shape_of(name, proto)
    count = math.prod(shape)
    _check_size(name, proto, dtype, count)
    values = _common_layout(proto, dtype, count)
    if values is not None:
        return values.reshape(shape)
    try:
        # TensorFlow's own parser knows every layout that clients in other languages send.
        parsed = tf.io.parse_tensor(proto.SerializeToString(), dtype)
    except tf.errors.OpError as error:
        raise _malformed(name, "shape, dtype and content do not fit together") from error
    return np.array(parsed.numpy(), object if dtype == tf.string else None)


def _common_layout(proto: Any, dtype: Any, count: int) -> npt.NDArray[Any] | None:
    """Return the values of the layouts that official clients send, at little cost, or None."""
    if dtype not in _VALUE_FIELDS:
        return None
    if dtype == tf.string:
        whole = len(proto.string_val) == count and not proto.tensor_content
        return np.array([*proto.string_val, None], object)[:-1] if whole else None
    content = proto.tensor_content  # a copy each time
    if len(content) == count * dtype.size:
        return np.frombuffer(content, dtype.as_numpy_dtype)
    values = getattr(proto, _VALUE_FIELDS[dtype])
    return np.array(values).astype(dtype.as_numpy_dtype) if len(values) == count and not content else None


def _check_size(name: str, proto: Any, dtype: Any, count: int) -> None:
    """Refuse a few values that claim to fill a huge tensor, and more values than the shape has."""
    values: Any = proto.string_val if dtype == tf.string else getattr(proto, _VALUE_FIELDS.get(dtype, ""), ())
    if len(values) > count:
        raise _malformed(name, f"{len(values)} values do not fit its shape {shape_of(name, proto)}")
    size = count * (STRING_BYTES if dtype == tf.string else dtype.size)
    if dtype == tf.string and len(values):
        size += sum(map(len, values)) + (count - len(values)) * len(values[-1])
    most = MAX_DECODED_BYTES
    if len(values) < count and size > MAX_REPEATED_BYTES and not proto.tensor_content:
        most = MAX_REPEATED_BYTES
    if size > most:
        raise RequestRefused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f'input "{name}" would take {size} bytes when decoded; at most {most} are accepted.',
        )
    if dtype == tf.string and len(values) < count and count > MAX_REPEATED_STRINGS and not proto.tensor_content:
        raise _malformed(name, f"it repeats a string to {count} rows; at most {MAX_REPEATED_STRINGS} are accepted")


def encode_tensor(array: npt.NDArray[Any], *, as_content: bool) -> Any:
    """Return an output as TensorProto.

    Args:
        array: Any dtype of TensorFlow; strings as objects.
        as_content: Write `tensor_content` instead of `float_val` and its like, as TensorFlow Serving does with
            `--enable_serialization_as_tensor_content`.
    """
    dtype = tf.dtypes.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == tf.string:
        strings = [_as_bytes(value) for value in array.ravel()]
        if as_content:
            proto.tensor_content = _string_content(strings)
        else:
            proto.string_val.extend(strings)
    elif as_content or dtype not in _VALUE_FIELDS:
        proto.tensor_content = array.tobytes()
    elif dtype in _PACKED_FIELDS:
        proto.MergeFromString(_packed(_PACKED_FIELDS[dtype], array.tobytes()))
    else:
        getattr(proto, _VALUE_FIELDS[dtype]).extend(array.ravel().tolist())
    return proto


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _packed(field: int, values: bytes) -> bytes:
    """Return a packed repeated field on the wire, a hundred times as fast as `extend` does it."""
    return bytes([field << 3 | _LENGTH_DELIMITED]) + _varint(len(values)) + values


def _string_content(strings: list[bytes]) -> bytes:
    """Lay strings out as `tensorflow::port::EncodeStringList` does: all lengths as varints, then all bytes."""
    return b"".join([*(_varint(len(string)) for string in strings), *strings])


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _malformed(name: str, why: str) -> RequestRefused:
    return RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, f'input "{name}" is a malformed TensorProto: {why}.')
