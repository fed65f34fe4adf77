"""The arrays of requests that are run as one: joined row by row, and dealt out again."""

from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from ae_search.model_server.refusal import RequestRefused
from ae_search.model_server.servable import Inputs, Outputs

# In the words of tensorflow_serving/batching/batching_session.cc.
OTHER_SHAPES = (
    "Tensors with name '{}' from different tasks have different shapes and padding is turned off.Set "
    "pad_variable_length_inputs to true, or ensure that all tensors with the same namehave equal dimensions starting "
    "with the first dim."
)
OTHER_ROWS = (
    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors"
)


def joined_inputs(name: str, arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Join one input of several requests.

    Raises:
        RequestRefused: The rows differ in shape.
    """
    if len(arrays) == 1:
        return arrays[0]
    if len({array.shape[1:] for array in arrays}) > 1:
        raise RequestRefused(grpc.StatusCode.FAILED_PRECONDITION, OTHER_SHAPES.format(name))
    return np.concatenate(arrays)


def split_outputs(outputs: Outputs, rows: list[int]) -> list[Outputs]:
    """Deal the rows of the outputs out to the requests.

    Raises:
        RequestRefused: The outputs are no rows, or not as many.
    """
    total = sum(rows)
    for array in outputs.values():
        if array.ndim == 0:
            raise RequestRefused(grpc.StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != total:
            raise RequestRefused(grpc.StatusCode.FAILED_PRECONDITION, OTHER_ROWS)
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def size_in_bytes(array: npt.NDArray[Any]) -> int:
    """Return what an input takes; strings count as long as they are."""
    return sum(map(len, array.ravel())) if array.dtype == object else array.nbytes


def rows_of(inputs: Inputs) -> int:
    """Return the rows of a request.

    Raises:
        RequestRefused: Its inputs have different numbers of rows.
    """
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1:
        raise RequestRefused(
            grpc.StatusCode.INVALID_ARGUMENT, "Batching Run() input tensors must have equal 0th-dimension size"
        )
    return counts.pop()
