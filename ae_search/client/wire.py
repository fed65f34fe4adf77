"""The wire messages of TensorFlow Serving without TensorFlow.

They come from a FileDescriptorSet (see tools/wire_descriptors.py) in a private pool, so that a process may load the
official stubs as well, before or after.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from ae_search.errors import ServerAnswerError

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
METHODS = (PREDICT, GET_MODEL_STATUS, GET_MODEL_METADATA)

# Numbers of tensorflow.DataType (tensorflow/core/framework/types.proto).
DT_FLOAT, DT_STRING = 1, 7
# The field of TensorProto (tensorflow/core/framework/tensor.proto).
_FLOAT_VAL = 5


def _messages() -> descriptor_pool.DescriptorPool:
    data = resources.files(__package__).joinpath("wire.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


_POOL = _messages()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
# In any answer but latents: a model card, or the states of a model's versions.
MAX_SMALL_ANSWER_BYTES = 2**20 + 2**16


class Values(NamedTuple):
    """Where the values of tensors stand in a message: the fields on the way, and how many are looked at altogether.

    The way is PredictResponse.outputs, its values, and of them tensor_content and the fields of values.
    """

    path: tuple[tuple[int, ...], ...]
    fields: int


NO_VALUES = Values((), 0)
FLOATS = Values(((1,), (2,), (4, _FLOAT_VAL)), 4096)
# Strings that an answer may have; each is a field of its own.
MAX_STRINGS = 2**20
ANY_VALUES = Values(((1,), (2,), (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17)), MAX_STRINGS)

TensorProto = _message("tensorflow.TensorProto")
DataType = _POOL.FindEnumTypeByName("tensorflow.DataType")
ModelState = _POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State")


def parsed(message: Any, data: bytes, target: str, *, values: Values = NO_VALUES) -> Any:
    """Return an answer of a message class, from its bytes.

    Args:
        message: The class.
        data: What was received.
        target: Who sent it, for the message.
        values: Which values of tensors come on top of `MAX_SMALL_ANSWER_BYTES`.

    Raises:
        ServerAnswerError: They are no such message, or more than that: parsed, two bytes can become two hundred.
    """
    rest = len(data)
    if values.path and rest > MAX_SMALL_ANSWER_BYTES:
        rest -= _value_bytes(memoryview(data), values.path, count(values.fields, -1))
    if rest > MAX_SMALL_ANSWER_BYTES:
        raise ServerAnswerError(
            f"{target} answered a {message.DESCRIPTOR.name} with {rest} bytes beside values; expected at most "
            f"{MAX_SMALL_ANSWER_BYTES}."
        )
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise ServerAnswerError(f"{target} answered {len(data)} bytes that are no {message.__name__}.") from error


def _value_bytes(data: memoryview, path: tuple[tuple[int, ...], ...], left: Iterator[int]) -> int:
    """Return how many bytes of a message are values at a path of fields, as far as the fields go that are left."""
    found = at = 0
    while at < len(data) and next(left) > 0:
        start = at
        tag, at = _varint(data, at)
        kind, field = tag & 7, tag >> 3
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            inner = data[at : at + size]
            at += size
            if field in path[0]:
                found += _value_bytes(inner, path[1:], left) if len(path) > 1 else at - start
        else:
            at += {1: 8, 5: 4}.get(kind, len(data))
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it; the end of the data where it is none."""
    number = 0
    for shift, byte in enumerate(data[at : at + 10]):
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return number, at + shift + 1
    return 0, len(data)


def to_floats(tensor: Any, shape: tuple[int, ...], what: str) -> npt.NDArray[np.float32]:
    """Read a float32 tensor of a shape from float_val or tensor_content.

    Args:
        tensor: The TensorProto.
        shape: What its shape must be.
        what: What to call its values in an error.

    Raises:
        ServerAnswerError: It has another dtype or shape, or not as many values as its shape says.
    """
    if tensor.dtype != DT_FLOAT:
        raise ServerAnswerError(f"Expected a float32 tensor, received DataType {tensor.dtype}.")
    dims = tensor.tensor_shape.dim
    if tuple(dim.size for dim in dims[: len(shape) + 1]) != shape:
        received = [dim.size for dim in dims[:4]]
        raise ServerAnswerError(f"Expected {what} of shape {list(shape)}, received rank {len(dims)}, {received}.")
    content = tensor.tensor_content
    if content and len(tensor.float_val):
        raise ServerAnswerError("Expected float_val or tensor_content, received both.")
    if not content and tensor.float_val:
        content = _packed_floats(tensor)
    if len(content) % 4:
        raise ServerAnswerError(f"Expected float32 values, received {len(content)} bytes.")
    values = np.frombuffer(content, "<f4").copy()
    if values.size != math.prod(shape):
        raise ServerAnswerError(f"Expected {' x '.join(map(str, shape))} values, received {values.size}.")
    return values.reshape(shape)


def _packed_floats(tensor: Any) -> memoryview:
    """Return the bytes of a tensor's float_val.

    protobuf hands the values out one by one, as Python floats; in the bytes of a message they lie side by side, behind
    the fields of lower numbers.

    Raises:
        ServerAnswerError: There are values of other types behind them.
    """
    size = 4 * len(tensor.float_val)
    data = memoryview(tensor.SerializeToString())
    head = _head_of_floats(size)
    if data[-size - len(head) : -size] != head:
        raise ServerAnswerError("Expected values in float_val alone.")
    return data[-size:]


@lru_cache(maxsize=64)
def _head_of_floats(size: int) -> bytes:
    """Return what stands before so many bytes of float_val: its tag, and the size as a varint."""
    head = bytearray([_FLOAT_VAL << 3 | 2])
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size])


def to_bytes(tensor: Any) -> bytes:
    """Read a tensor of one string.

    Raises:
        ServerAnswerError: It is something else.
    """
    content: bytes = tensor.tensor_content
    if tensor.dtype == DT_STRING and len(tensor.string_val) == 1 and not content:
        return bytes(tensor.string_val[0])
    # --enable_serialization_as_tensor_content: the length as a varint, then the bytes (TensorFlow, EncodeStringList).
    length = start = 0
    while start < min(len(content), 5):
        length |= (content[start] & 0x7F) << (7 * start)
        start += 1
        if not content[start - 1] & 0x80:
            break
    if tensor.dtype != DT_STRING or tensor.string_val or not start or len(content) != start + length:
        raise ServerAnswerError(f"Expected one string, received DataType {tensor.dtype}.")
    return content[start:]
