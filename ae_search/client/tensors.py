"""NumPy arrays to tensors on the wire and back, for every dtype that both know.

The numbers are those of tensorflow.DataType (tensorflow/core/framework/types.proto), the fields those of
tensorflow/core/framework/tensor.proto.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ae_search.client.wire import DT_STRING, MAX_STRINGS
from ae_search.errors import ConfigurationError, ServerAnswerError

DT_BFLOAT16 = 14
# A message of protobuf has no more bytes; its frame and shapes take some.
MAX_INPUT_BYTES = 2**31 - 2**20
# NumPy has no more axes.
MAX_RANK = 32
# A tensor may say one value for all; what is filled in may take so many bytes on top of what came.
MAX_FILLED_BYTES = 64 * 2**20


class _Kind(NamedTuple):
    """How values of a dtype stand in tensor_content, and in which field else."""

    dtype: str
    field: str
    # How they stand in that field, where it is not as numbers: as 16 bits of a float, or as pairs.
    stored: str = ""


_KINDS = {
    1: _Kind("<f4", "float_val"),
    2: _Kind("<f8", "double_val"),
    3: _Kind("<i4", "int_val"),
    4: _Kind("|u1", "int_val"),
    5: _Kind("<i2", "int_val"),
    6: _Kind("|i1", "int_val"),
    8: _Kind("<c8", "scomplex_val", "<f4"),
    9: _Kind("<i8", "int64_val"),
    10: _Kind("|b1", "bool_val"),
    17: _Kind("<u2", "int_val"),
    18: _Kind("<c16", "dcomplex_val", "<f8"),
    19: _Kind("<f2", "half_val", "<u2"),
    22: _Kind("<u4", "uint32_val"),
    23: _Kind("<u8", "uint64_val"),
}
_NUMBERS = {kind.dtype: number for number, kind in _KINDS.items()}
# Quantized numbers come as the integers that they are stored as; bfloat16 as its 16 bits, see `_widened`.
_KINDS |= {
    11: _Kind("|i1", "int_val"),
    12: _Kind("|u1", "int_val"),
    13: _Kind("<i4", "int_val"),
    DT_BFLOAT16: _Kind("<u2", "half_val", "<u2"),
    15: _Kind("<i2", "int_val"),
    16: _Kind("<u2", "int_val"),
}


def fill_tensor(tensor: Any, name: str, values: npt.ArrayLike) -> None:
    """Fill a `TensorProto`.

    Args:
        tensor: The empty message.
        name: The input's name, for errors.
        values: Numbers, booleans, or strings (bytes or str, which goes as UTF-8), of any shape.

    Raises:
        ConfigurationError: They are no array, of a dtype that cannot be sent, or too large.
    """
    array = _array(name, values)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OSU":
        tensor.dtype = DT_STRING
        tensor.string_val.extend(_strings(name, array))
        return
    if array.dtype.name == "bfloat16":  # of ml_dtypes, which need not be there
        tensor.dtype, array = DT_BFLOAT16, array.view(np.uint16)
    else:
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype.str not in _NUMBERS:
            raise ConfigurationError(f"Input {name!r} has dtype {array.dtype}, which no tensor has; convert it.")
        tensor.dtype = _NUMBERS[array.dtype.str]
    if array.nbytes > MAX_INPUT_BYTES:
        raise too_large(array.nbytes)
    tensor.tensor_content = array.tobytes()


def too_large(size: int) -> ConfigurationError:
    """Return the error for inputs that do not fit in one message."""
    return ConfigurationError(
        f"Inputs of {size} bytes do not fit in one request, which takes {MAX_INPUT_BYTES}; send fewer rows at once."
    )


def _array(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        first: Any = values
        while isinstance(first, list | tuple) and first:
            first = first[0]
        # A dtype of fixed length would pad strings to the longest, and lose zero bytes at their end.
        return np.array(values, object) if isinstance(first, bytes | str) else np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigurationError(f"Input {name!r} must be an array. Received: {error}.") from error


def _strings(name: str, array: npt.NDArray[Any]) -> Iterator[bytes]:
    total = 0
    for value in array.ravel().tolist():
        if isinstance(value, str):
            value = value.encode()
        if not isinstance(value, bytes):
            raise ConfigurationError(f"Input {name!r} must hold bytes or str. Received: {type(value).__name__}.")
        total += len(value)
        if total > MAX_INPUT_BYTES:
            raise too_large(total)
        yield value


class TensorReader:
    """Reads the tensors of one answer, in memory that is in proportion to its bytes.

    Args:
        answer_bytes: Bytes of the answer.
    """

    def __init__(self, answer_bytes: int) -> None:
        self._left = MAX_FILLED_BYTES + 8 * answer_bytes

    def array(self, tensor: Any) -> npt.NDArray[Any]:
        """Return a `TensorProto` as an array of its own: strings as bytes in an object array, bfloat16 as float32.

        Raises:
            ServerAnswerError: It is malformed, too large, or of a dtype that NumPy lacks.
        """
        shape = _shape(tensor)
        kind = _KINDS.get(tensor.dtype)
        if tensor.dtype != DT_STRING and kind is None:
            raise ServerAnswerError(f"DataType {tensor.dtype} is none that NumPy has.")
        itemsize = 8 if kind is None else np.dtype(kind.dtype).itemsize
        count = prod(shape)
        if kind is None and count > MAX_STRINGS:
            raise ServerAnswerError(f"Expected at most {MAX_STRINGS} strings, received shape {list(shape)}.")
        self._left -= count * itemsize
        if self._left < 0:
            raise ServerAnswerError(f"A tensor of shape {list(shape)} is larger than its message allows.")
        content = tensor.tensor_content
        values = _string_values(tensor, content, count) if kind is None else _number_values(tensor, content, kind)
        if len(values) < count and not content:  # the last one stands for the rest, nothing for zeros
            last = values[-1:] if len(values) else np.array([b"" if kind is None else 0], values.dtype)
            values = np.concatenate([values, np.repeat(last, count - len(values))])
        if len(values) != count:
            raise ServerAnswerError(f"Expected {count} values for shape {list(shape)}, received {len(values)}.")
        try:
            return (_widened(values) if tensor.dtype == DT_BFLOAT16 else values).reshape(shape)
        except ValueError as error:  # NumPy multiplies the sizes without the zeros
            raise ServerAnswerError(f"NumPy has no arrays of shape {list(shape)}: {error}.") from error


def _shape(tensor: Any) -> tuple[int, ...]:
    if tensor.tensor_shape.unknown_rank or len(tensor.tensor_shape.dim) > MAX_RANK:
        raise ServerAnswerError(f"Expected a shape of at most {MAX_RANK} axes.")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise ServerAnswerError(f"Expected a shape of whole numbers, received {list(shape)}.")
    return shape


def _number_values(tensor: Any, content: bytes, kind: _Kind) -> npt.NDArray[Any]:
    dtype = np.dtype(kind.dtype)
    if content:
        if len(content) % dtype.itemsize:
            raise ServerAnswerError(f"Expected values of {dtype}, received {len(content)} bytes.")
        return np.frombuffer(content, np.uint8 if dtype.kind == "b" else dtype).astype(dtype)
    field = getattr(tensor, kind.field)
    if not kind.stored:
        values = np.array(field, dtype if kind.field != "int_val" else np.int32)
        return values.astype(dtype, copy=False)
    numbers = np.array(field, np.int32 if kind.stored == "<u2" else kind.stored).astype(kind.stored, copy=False)
    if numbers.nbytes % dtype.itemsize:
        raise ServerAnswerError(f"Expected pairs of numbers, received {len(numbers)} of them.")
    return numbers.view(dtype)


def _string_values(tensor: Any, content: bytes, count: int) -> npt.NDArray[Any]:
    strings = list(tensor.string_val) if not content else _cut(content, count)
    values = np.empty(len(strings), object)
    values[:] = strings
    return values


def _cut(content: bytes, count: int) -> list[bytes]:
    """Cut --enable_serialization_as_tensor_content: all lengths as varints, then all bytes (EncodeStringList)."""
    lengths, at = [], 0
    for _ in range(min(count, len(content))):
        length = shift = 0
        while at < len(content):
            byte = content[at]
            length, shift, at = length | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80 or shift > 63:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ServerAnswerError(f"Expected {count} strings, received {len(content)} bytes that are none.")
    ends = np.cumsum([at, *lengths]).tolist()
    return [content[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]


def _widened(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return bfloat16 as float32, which holds every value of it."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
