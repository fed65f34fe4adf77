"""What both sides of the wire agree on: signature names, tensor keys and the model card."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt

from ae_search.errors import ImageError, ServerAnswerError

SIGNATURE_FLOAT = "serving_default"
SIGNATURE_UINT8 = "encode_uint8"
SIGNATURE_BYTES = "encode_bytes"
SIGNATURE_DESCRIBE = "describe"

IMAGES = "images"
IMAGE_BYTES = "image_bytes"
LATENTS = "latents"
MODEL_CARD = "model_card"
# The input of `describe`, int32 `[n]`; [0] where a request leaves it out. Its values mean nothing.
ROWS = "rows"

CARD_FORMAT = 1
# No latent with more floats fits into an answer.
MAX_LATENT_DIM = 2**24
# tensorflow_model_server's own default for --model_name.
DEFAULT_MODEL_NAME = "default"

Metric = Literal["angular", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)

Latents = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelRef:
    """The identity of a model, as an index keeps it.

    Attributes:
        name: Model name.
        version: Version number, at least 1.
        fingerprint: Hex sha256 of the model; latents of another fingerprint must not be compared with these.
    """

    name: str
    version: int
    fingerprint: str


@dataclass(frozen=True)
class ModelCard:
    """What an exported encoder says of itself through the `describe` signature.

    Attributes:
        name: Model name, the folder above the versions.
        version: Version number, at least 1.
        fingerprint: Hex sha256 over architecture, weights and preprocessing; equal for equal latents.
        image_shape: Height and width in px, channels (1 or 3).
        latent_dim: Floats in one latent.
        metric: Distance to compare latents with, by its Annoy name.
        data: Summary of the training data.
        training: Figures of the training, and `input_range` and `input_dtype` of what the encoder itself is fed.
        keras: Version of Keras that exported it.
        tensorflow: Version of TensorFlow that exported it.
        format: Version of this card's layout.
    """

    name: str
    version: int
    fingerprint: str
    image_shape: tuple[int, int, int]
    latent_dim: int
    metric: Metric = "angular"
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    keras: str = ""
    tensorflow: str = ""
    format: int = CARD_FORMAT

    def to_json(self) -> str:
        """Return the card as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    def with_version(self, version: int) -> Self:
        """Return the card under another version number, the one a server answered with."""
        return replace(self, version=version)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read and check a card.

        Raises:
            ServerAnswerError: It is no model card, or one of a newer format.
        """
        try:
            raw = json.loads(text.decode() if isinstance(text, bytes) else text)
            if raw["format"] > CARD_FORMAT:
                raise ServerAnswerError(
                    f"The model card has format {raw['format']}, this ae-search reads up to {CARD_FORMAT}; upgrade it."
                )
            card = cls(**{f.name: raw[f.name] for f in fields(cls)})
            height, width, channels = (int(side) for side in card.image_shape)
            card = replace(card, image_shape=(height, width, channels))
            sane = min(height, width, card.latent_dim, card.version) >= 1 and channels in (1, 3)
            # The numbers are used as they are: in requests, and as the size of arrays.
            sane &= type(card.version) is int and card.version < 2**63
            sane &= type(card.latent_dim) is int and card.latent_dim <= MAX_LATENT_DIM
            sane &= isinstance(card.name, str) and isinstance(card.fingerprint, str)
            if not sane or card.metric not in METRICS:
                raise ValueError("a field is out of range")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ServerAnswerError(
                f"The model's {SIGNATURE_DESCRIBE!r} signature did not return a model card ({error!r:.200}); "
                "was the model exported by ae-search?"
            ) from error
        return card


class Encoder(Protocol):
    """Something that turns images into latents: `client.LatentClient` or `model_server.LocalEncoder`."""

    def encode(self, images: npt.ArrayLike) -> Latents:
        """Return the latents `[n, d]` of `images` `[n, h, w, c]`."""

    def encode_files(self, files: "FileInputs", *, on_bad: "OnBad | None" = None) -> Latents:
        """Return the latents `[n, d]` of image files, given as paths or as their bytes."""

    def describe(self) -> ModelCard:
        """Return the model card, its version the one that answered."""

    def at_version(self, version: int) -> Self:
        """Return the same encoder pinned to a version."""


class OnBad(Protocol):
    """Called with the position and the error of each file that is left out."""

    def __call__(self, position: int, error: ImageError, /) -> None:
        """Take note of a bad image."""


FileInputs = list[Path] | list[bytes] | list[Path | bytes] | list[str]


def image_batch(images: npt.ArrayLike, image_shape: tuple[int, int, int]) -> tuple[str, npt.NDArray[Any]]:
    """Check a batch of images and choose the signature it goes to.

    Args:
        images: uint8 in [0, 255] or floats in [0, 1], shape `[n, h, w, c]` or one image `[h, w, c]`;
            for one channel the last axis may be missing.
        image_shape: `(h, w, c)` of the model.

    Returns:
        The signature's name and the array, `[n, h, w, c]`, uint8 or float32.

    Raises:
        ImageError: Shape, dtype or values do not fit.
    """
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ImageError(f"Images must be of one shape, {image_shape}. Received: {error}.") from error
    if array.shape == (0,):  # an empty list
        array = np.zeros((0, *image_shape), np.uint8)
    if array.shape[-2:] == image_shape[:2] and image_shape[2] == 1 and array.shape[-3:] != image_shape:
        array = array[..., np.newaxis]
    if array.shape == image_shape:
        array = array[np.newaxis]
    if array.ndim != 4 or array.shape[1:] != image_shape:
        raise ImageError(f"The model takes images of shape {('n', *image_shape)}. Received: shape={array.shape}.")
    if array.dtype == np.uint8:
        return SIGNATURE_UINT8, array
    if array.dtype.kind != "f":
        raise ImageError(f"Images must be uint8 or floats in [0, 1]. Received: dtype={array.dtype}.")
    # NaN fails both comparisons, so this also refuses non-finite values.
    if array.size and not (array.min() >= 0.0 and array.max() <= 1.0):
        raise ImageError(f"Float images must lie in [0, 1]. Received: values in [{array.min()}, {array.max()}].")
    return SIGNATURE_FLOAT, array.astype(np.float32, copy=False)
