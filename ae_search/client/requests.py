"""Predict requests, and what is made of their answers."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.client import wire
from ae_search.client.rpc_errors import Asked
from ae_search.client.tensors import fill_tensor
from ae_search.contract import IMAGES, LATENTS, MODEL_CARD, Latents, ModelCard, Pictures
from ae_search.errors import AeSearchError, ModelNotServedError, ServerAnswerError


@dataclass(slots=True)
class Request:
    """One request: the method, whom it asks, and its bytes."""

    method: str
    asked: Asked
    message: bytes


# The bytes of an answer, or why there is none.
Outcome = bytes | AeSearchError


class MovedOnError(ModelNotServedError):
    """Another version answered than the one that the call is about; it starts anew."""


def fill_spec(spec: Any, asked: Asked) -> None:
    """Name the model in a `ModelSpec`, with the version or label that is asked for."""
    spec.name = asked.model
    if asked.version is not None:
        spec.version.value = asked.version
    elif asked.label is not None:
        spec.version_label = asked.label


def predict(asked: Asked, signature: str, inputs: dict[str, Any] | None = None) -> Request:
    """Return the request for a signature with inputs: arrays or lists of byte strings, by name."""
    request = wire.PredictRequest()
    fill_spec(request.model_spec, asked)
    request.model_spec.signature_name = signature
    for name, values in (inputs or {}).items():
        fill_tensor(request.inputs[name], name, values)
    return Request(wire.PREDICT, asked, request.SerializeToString())


def predict_array(asked: Asked, signature: str, name: str, array: npt.NDArray[Any]) -> Request:
    """Return what `predict` does for one array, at a third of the cost: all but the values is the same each time."""
    return Request(wire.PREDICT, asked, _head(asked, signature, name, array.dtype, array.shape) + array.tobytes())


@lru_cache(maxsize=64)
def _head(asked: Asked, signature: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the bytes of a request up to the values of its array, which protobuf writes last (field 4 of 2 of 2)."""
    values = np.full(shape, 255, np.uint8).astype(dtype)
    message = predict(asked, signature, {name: values}).message
    content = values.tobytes()
    if not message.endswith(content):
        raise AssertionError("protobuf no longer writes fields in the order of their numbers")
    return message[: len(message) - len(content)]


def good(outcome: Outcome) -> bytes:
    """Return the bytes of an answer, or raise why there is none."""
    if isinstance(outcome, AeSearchError):
        raise outcome
    return outcome


def card_of(data: bytes, asked: Asked) -> ModelCard:
    """Return the model card in an answer, its version the one that answered.

    Raises:
        ServerAnswerError: There is none, or another version answered than was asked for.
    """
    target = asked.target
    response = wire.parsed(wire.PredictResponse, data, target)
    if MODEL_CARD not in response.outputs:
        raise ServerAnswerError(f"{target} answered without {MODEL_CARD!r}; was the model exported by ae-search?")
    card = ModelCard.from_json(wire.to_bytes(response.outputs[MODEL_CARD]))
    card = card.with_version(response.model_spec.version.value or card.version)
    if card.version < 1:
        raise ServerAnswerError(f"{target}: expected a version of at least 1, version {card.version} answered.")
    if asked.version not in (None, card.version):
        raise ServerAnswerError(f"{target} was asked for version {asked.version}, version {card.version} answered.")
    return card


def latents_of(data: bytes, card: ModelCard, asked: Asked, rows: int) -> Latents:
    """Check an answer and return its latents, float32 `[rows, d]`.

    Raises:
        MovedOnError: Another version answered, and none was pinned.
        ServerAnswerError: It is not what was asked for.
    """
    latents = _floats_of(data, card, asked, LATENTS, (rows, card.latent_dim))
    if not np.isfinite(latents).all():
        raise ServerAnswerError(f"{asked.target}: expected finite latents, received NaN or infinity.")
    return latents


def pictures_of(data: bytes, card: ModelCard, asked: Asked, rows: int) -> Pictures:
    """Check an answer and return its decoded images, float32 `[rows, h, w, c]` in [0, 1].

    Raises:
        MovedOnError: Another version answered, and none was pinned.
        ServerAnswerError: It is not what was asked for.
    """
    pictures = _floats_of(data, card, asked, IMAGES, (rows, *card.image_shape))
    if not (pictures.min() >= 0.0 and pictures.max() <= 1.0):  # NaN fails as well
        raise ServerAnswerError(f"{asked.target}: expected images in [0, 1], received other values.")
    return pictures


def _floats_of(
    data: bytes, card: ModelCard, asked: Asked, name: str, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Return an output of the version that the call is about."""
    target = asked.target
    response = wire.parsed(wire.PredictResponse, data, target, values=wire.FLOATS)
    if name not in response.outputs:
        raise ServerAnswerError(f"{target} answered without {name!r}; was the model exported by ae-search?")
    answered = response.model_spec.version.value
    if answered != card.version:
        kind = MovedOnError if asked.version is None else ServerAnswerError
        raise kind(f"{target} was asked for version {card.version}, version {answered} answered.")
    try:
        return wire.to_floats(response.outputs[name], shape, name)
    except ServerAnswerError as error:
        raise ServerAnswerError(f"{target}: {error}") from error
