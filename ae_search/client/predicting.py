"""Conversations about any model: run a signature of it, ask what signatures it has."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from ae_search.client import wire
from ae_search.client.requests import Outcome, Request, fill_spec, good
from ae_search.client.rpc_errors import Asked, BatchTooLargeError
from ae_search.client.steps import Ask, Conversation, Work
from ae_search.client.tensors import MAX_INPUT_BYTES, TensorReader, fill_tensor, too_large
from ae_search.errors import ConfigurationError, ImageError, ServerAnswerError

SIGNATURE_DEF = "signature_def"
# What is packed or read faster than a thread is found for it.
QUICK_BYTES = 2**16

Inputs = Mapping[str, npt.ArrayLike]
Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        dtype: Name of its dtype: "float32", "string", "bfloat16", …
        shape: Its axes, None where any size will do; None altogether where even the rank is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """A signature of a model.

    Attributes:
        inputs: What it takes, by name.
        outputs: What it returns, by name.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class ModelMetadata:
    """What a server says of a model.

    Attributes:
        model: Its name.
        version: The version that answered.
        signatures: Its signatures, by name.
    """

    model: str
    version: int
    signatures: Mapping[str, Signature]


def predict(asked: Asked, inputs: Inputs, signature: str, outputs: Iterable[str] | None) -> Conversation:
    """Run a signature; end with its outputs by name.

    Raises:
        ConfigurationError: The inputs cannot be sent, or the server refuses them.
        TypeError: `inputs` is no mapping, or `outputs` one name and no list.
    """
    if not isinstance(inputs, Mapping) or isinstance(outputs, str):
        raise TypeError("inputs are arrays by name, outputs a list of names.")
    names = None if outputs is None else list(outputs)
    asked = replace(asked, sent="inputs")
    pack = partial(_request, asked, inputs, signature, names or [])
    quick = all(isinstance(one, np.ndarray) and one.nbytes <= QUICK_BYTES for one in inputs.values())
    request = pack() if quick else (yield Work(pack))
    data = _good((yield Ask(request)), asked)
    if len(data) <= QUICK_BYTES:
        return _outputs(data, asked, names)
    return (yield Work(partial(_outputs, data, asked, names)))


def metadata(asked: Asked) -> Conversation:
    """Ask for the signatures of a model; end with `ModelMetadata`."""
    request = wire.GetModelMetadataRequest(metadata_field=[SIGNATURE_DEF])
    fill_spec(request.model_spec, asked)
    outcome = yield Ask(Request(wire.GET_MODEL_METADATA, asked, request.SerializeToString()))
    response = wire.parsed(wire.GetModelMetadataResponse, _good(outcome, asked), asked.target)
    packed = response.metadata[SIGNATURE_DEF] if SIGNATURE_DEF in response.metadata else None
    if packed is None or packed.type_url.rpartition("/")[2] != wire.SignatureDefMap.DESCRIPTOR.full_name:
        raise ServerAnswerError(f"{asked.target} answered without a {SIGNATURE_DEF}.")
    found = wire.parsed(wire.SignatureDefMap, packed.value, asked.target).signature_def
    spec = response.model_spec
    _check_version(asked, spec.version.value)
    signatures = {name: Signature(_specs(one.inputs), _specs(one.outputs)) for name, one in sorted(found.items())}
    return ModelMetadata(spec.name or asked.model, spec.version.value, signatures)


def _request(asked: Asked, inputs: Inputs, signature: str, outputs: list[str]) -> Request:
    request = wire.PredictRequest(output_filter=outputs)
    fill_spec(request.model_spec, asked)
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        fill_tensor(request.inputs[name], name, values)
    if (size := request.ByteSize()) > MAX_INPUT_BYTES:
        raise too_large(size)
    return Request(wire.PREDICT, asked, request.SerializeToString())


def _outputs(data: bytes, asked: Asked, names: list[str] | None) -> Outputs:
    target = asked.target
    response = wire.parsed(wire.PredictResponse, data, target, values=wire.ANY_VALUES)
    _check_version(asked, response.model_spec.version.value)
    reader, found = TensorReader(len(data)), {}
    for name in sorted(response.outputs) if names is None else names:
        if name not in response.outputs:
            raise ServerAnswerError(f"{target} answered without {name!r}.")
        try:
            found[name] = reader.array(response.outputs[name])
        except ServerAnswerError as error:
            raise ServerAnswerError(f"{target}: output {name!r}: {error}") from error
    return found


def _check_version(asked: Asked, answered: int) -> None:
    if asked.version not in (None, answered):
        raise ServerAnswerError(f"{asked.target} was asked for version {asked.version}, version {answered} answered.")


def _good(outcome: Outcome, asked: Asked) -> bytes:
    """Return the bytes of an answer, or raise why there is none: what was refused are tensors, and no images."""
    if not isinstance(outcome, ImageError):
        return good(outcome)
    cause = outcome.__cause__
    told = str(cause.details() or "") if isinstance(cause, grpc.RpcError) else ""
    if isinstance(outcome, BatchTooLargeError) and "CLIENT: Received" in told:
        raise ServerAnswerError(
            f"The answer of {asked.target} is too large ({told}); ask for fewer rows or outputs, or allow more by "
            "max_answer_bytes."
        ) from cause
    raise ConfigurationError(str(outcome)) from cause


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(_dtype_name(info.dtype), _open_shape(info.tensor_shape)) for name, info in infos.items()}


def _dtype_name(number: int) -> str:
    """Return TensorFlow's own name of a dtype, which is mostly NumPy's."""
    known = wire.DataType.values_by_number.get(number)
    name = known.name.removeprefix("DT_").lower() if known is not None else f"DataType {number}"
    return {"float": "float32", "double": "float64", "half": "float16"}.get(name, name)


def _open_shape(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
