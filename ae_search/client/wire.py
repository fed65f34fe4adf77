"""The wire messages of TensorFlow Serving without TensorFlow.

They come from a FileDescriptorSet (see tools/wire_descriptors.py) in a private pool, so that a process may load the
official stubs as well, before or after.
"""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ae_search.errors import ServerAnswerError

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

# Numbers of tensorflow.DataType (tensorflow/core/framework/types.proto).
DT_FLOAT, DT_UINT8, DT_STRING = 1, 4, 7
NUMERIC = {DT_FLOAT: np.dtype("<f4"), DT_UINT8: np.dtype("u1")}
NUMBERS = {dtype: number for number, dtype in NUMERIC.items()}


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
TensorProto = _message("tensorflow.TensorProto")
ModelState = _POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State")


def to_tensor(values: npt.NDArray[Any] | Sequence[bytes]) -> Any:
    """Return a TensorProto of float32 or uint8 pixels, or of a sequence of byte strings."""
    if isinstance(values, np.ndarray):
        tensor = TensorProto(dtype=NUMBERS[values.dtype], tensor_content=values.tobytes())
        shape: tuple[int, ...] = values.shape
    else:
        tensor = TensorProto(dtype=DT_STRING, string_val=values)
        shape = (len(values),)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def to_floats(tensor: Any) -> npt.NDArray[np.float32]:
    """Read a float32 tensor from float_val or tensor_content.

    Raises:
        ServerAnswerError: It has another dtype, or not as many values as its shape says.
    """
    if tensor.dtype != DT_FLOAT:
        raise ServerAnswerError(f"Expected a float32 tensor, received DataType {tensor.dtype}.")
    content = tensor.tensor_content
    if len(content) % 4:
        raise ServerAnswerError(f"Expected float32 values, received {len(content)} bytes.")
    values = np.frombuffer(content, "<f4") if content else np.array(tensor.float_val, np.float32)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    count = 1
    for size in shape:
        count *= size  # Python's integers: a forged shape cannot overflow
    if min(shape, default=0) < 0 or count != values.size:
        raise ServerAnswerError(f"Expected {shape} values, received {values.size}.")
    try:
        return values.reshape(shape)
    except ValueError as error:  # [0, 2**62] has as many values as it says, but NumPy cannot hold it
        raise ServerAnswerError(f"Expected a tensor of usable shape, received rank {len(shape)} ({error}).") from error


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
